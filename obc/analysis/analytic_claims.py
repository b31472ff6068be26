"""The paper's claims about gradients of its losses, checked numerically.

Gradients are computed by autograd, in float64, from the losses that the trainings use. Errors and
offsets are in units of the normalised delta (equation 1). A score is a logit of a bin.

Shape shorthand: E errors, R boxes with four coordinates each, m inner bins, n = m + 2 scores.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from mmdet.models.losses import CrossEntropyLoss, MSELoss, SmoothL1Loss
from torch import Tensor

from obc.bins import OffsetBins

BINS = OffsetBins(num_bins=20, max_offset=3.0)  # section 4
BETAS = (1.0, 1.5, 2.0)  # Table 2
SCALES = (0.1, 1.0, 10.0, 100.0)  # of random scores: from undecided to certain, mostly wrong
VECTORS = 10_000  # random score vectors at each of SCALES
ROUNDING = 1e-12
RAISED_BETA = "β is raised so that more samples are treated based on enough gradient contributions"
ERRORS = torch.linspace(0, 2.5, 251, dtype=torch.float64)


# --- losses and gradients ----------------------------------------------------------------------


def regression(loss: torch.nn.Module, errors: Tensor) -> tuple[Tensor, Tensor]:
    """Compute a regression loss and its gradient to the predicted offset, at each error.

    Args:
        loss: a loss of MMDetection, with reduction `none`.
        errors: predicted minus true offset, (E,).

    Returns:
        Loss and gradient, (E,) each.
    """
    predicted = errors.detach().clone().requires_grad_()
    losses = loss(predicted, torch.zeros_like(predicted))
    return losses.detach(), torch.autograd.grad(losses.sum(), predicted)[0]


def smooth_l1(beta: float, errors: Tensor) -> tuple[Tensor, Tensor]:
    """Call `regression` with MMDetection's smooth L1 loss of this β."""
    return regression(SmoothL1Loss(beta=beta, reduction="none"), errors)


def bin_classification(errors: Tensor, bins: OffsetBins = BINS) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the cross entropy over bins of predictions that are off the truth by `errors`.

    The true offset is the centre of the bin that contains 0. The scores are -(c_l - t)^2 / (2 w^2)
    over the centres c_l of the inner bins of stage 1; their softmax is a discretised Gaussian of
    one bin width w around the predicted offset t. A trained network may predict another
    distribution: this is one way to plot a loss of n scores against a single error.

    Args:
        errors: predicted minus true offset, (E,).

    Returns:
        Loss (E,), its gradient to the predicted offset (E,) and to the scores (E, m).
    """
    centers = bins.centers[0, : bins.num_inner].double()
    label = bins.encode(torch.zeros(()))[0]
    predicted = (centers[label] + errors).requires_grad_()
    scores = -((centers - predicted[:, None]) ** 2) / (2 * bins.widths[0].double() ** 2)
    losses = _cross_entropy(scores, label.expand(len(errors)))
    to_offset, to_scores = torch.autograd.grad(losses.sum(), (predicted, scores))
    return losses.detach(), to_offset, to_scores


def score_gradients(scores: Tensor, labels: Tensor) -> Tensor:
    """Compute the gradient of equation 7 to each score.

    Args:
        scores: before the softmax, (..., n).
        labels: of the true bins, (...), int64.

    Returns:
        (..., n).
    """
    scores = scores.detach().clone().requires_grad_()
    return torch.autograd.grad(_cross_entropy(scores, labels).sum(), scores)[0]


def _cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    losses = CrossEntropyLoss(reduction="none")(scores.flatten(0, -2), labels.flatten())
    return losses.unflatten(0, labels.shape)


# --- claims ------------------------------------------------------------------------------------


def analytic_claims() -> list[dict[str, Any]]:
    """Check each statement of sections 1, 3 and 4.1 on losses and gradients numerically.

    If the paper's wording allows several readings, each reading is a separate claim and says so.

    Returns:
        Per claim `id`, `section`, `statement` (plain words), `paper` (the paper's wording), `ours`
        (our result) and `verdict` (`reproduced` or `not reproduced`).
    """
    return [*_claims_on_regression(), *_claims_on_equation_8(), *_claims_on_offset_errors()]


def _claim(
    name: str, section: str, statement: str, paper: str, ours: str, holds: bool
) -> dict[str, Any]:
    verdict = "reproduced" if holds else "not reproduced"
    return {
        "id": name,
        "section": section,
        "statement": statement,
        "paper": paper,
        "ours": ours,
        "verdict": verdict,
    }


def _claims_on_regression() -> list[dict[str, Any]]:
    far = torch.logspace(-3, 4, 71, dtype=torch.float64)
    _, l2 = regression(MSELoss(reduction="none"), far)
    slopes = l2 / far

    near = torch.linspace(-10, 10, 2001, dtype=torch.float64)
    deviation = max(_deviation_from_equation_4(beta, near) for beta in BETAS)

    beyond = torch.logspace(0.01, 3, 100, dtype=torch.float64)
    clipped = torch.cat([smooth_l1(beta, beta * beyond)[1] for beta in BETAS])
    loss_10, loss_100 = smooth_l1(1.0, torch.tensor([10.0, 100.0]).double())[0].tolist()

    by_beta = torch.stack([smooth_l1(beta, far)[1] for beta in BETAS])
    grows = bool((by_beta.diff(dim=0) > ROUNDING).any())
    clipped_at = [int((gradients > 1 - ROUNDING).sum()) for gradients in by_beta]
    at_half = [smooth_l1(beta, torch.tensor([0.5]).double())[1].item() for beta in BETAS]
    return [
        _claim(
            "l2-gradient-grows",
            "1, 2, 3.1",
            "The gradient of the L2 loss grows with the error without end: ten times the error, "
            "ten times the gradient. Read as a statement on the loss; whether a training explodes "
            "is not decided here.",
            "L2 may cause gradient explosions when there are large offset errors",
            f"gradient / error between {slopes.min():.6g} and {slopes.max():.6g} at errors from "
            f"{far[0]:g} to {far[-1]:g}; the gradient is {l2[-1]:.6g} at the last",
            bool((slopes - slopes.mean()).abs().max() < ROUNDING),
        ),
        _claim(
            "equation-4",
            "3.1",
            "The gradient of smooth L1 is error / β up to β and 1 or −1 beyond, for each β of "
            "Table 2.",
            "equation 4: x / β where |x| ≤ β, sgn(x) otherwise",
            f"largest deviation {deviation:.1g} over {len(near)} errors from {near[0]:g} to "
            f"{near[-1]:g}, β = {_listed(BETAS)}",
            deviation < ROUNDING,
        ),
        _claim(
            "smooth-l1-saturates",
            "abstract, 1, 3.1",
            "All errors larger than β get the same gradient from smooth L1, however large. Penalty "
            "is read as gradient: the loss itself goes on growing.",
            "the same penalties on different samples with large errors; gradients clipped to 1 "
            "or −1",
            f"gradient between {clipped.min():.6g} and {clipped.max():.6g} at errors of "
            f"{beyond[0]:.3g} to {beyond[-1]:g} times β; the loss (β = 1) is {loss_10:g} at an "
            f"error of 10 and {loss_100:g} at 100",
            bool((clipped - 1).abs().max() < ROUNDING),
        ),
        _claim(
            "larger-beta-fewer-clipped",
            "4.1",
            "A larger β clips the gradients of fewer samples. (One reading of the words; another "
            "is the next claim.)",
            RAISED_BETA,
            f"of {len(far)} errors from {far[0]:g} to {far[-1]:g}, {_listed(clipped_at)} have a "
            f"gradient of 1 at β = {_listed(BETAS)}",
            bool((torch.tensor(clipped_at).diff() < 0).all()),
        ),
        _claim(
            "larger-beta-larger-gradient",
            "4.1",
            "A larger β gives some samples a larger gradient. (The other reading.)",
            RAISED_BETA,
            f"{'some' if grows else 'no'} error of {len(far)} from {far[0]:g} to {far[-1]:g} has a "
            f"larger gradient at a larger β; at an error of 0.5 the gradient is "
            f"{_listed(at_half)} for β = {_listed(BETAS)}",
            grows,
        ),
    ]


def _claims_on_equation_8() -> list[dict[str, Any]]:
    scores, labels = _random_scores()
    gradients = score_gradients(scores, labels)
    p = scores.softmax(-1)
    expected = p - torch.nn.functional.one_hot(labels, BINS.num_logits)
    deviation = (gradients - expected).abs().max().item()
    largest = gradients.abs().max().item()
    sums = gradients.sum(-1).abs().max().item()
    as_printed = (gradients + expected).abs().max().item()
    summed = (gradients + expected.sum(-2, keepdim=True)).abs().max().item()
    norm = gradients.norm(dim=-1).max().item()
    p_true = p.gather(-1, labels[..., None])[..., 0]
    largest_of_each = gradients.abs().amax(-1)
    adapts = (largest_of_each - (1 - p_true)).abs().max().item()
    where = f"{labels.numel():,} random score vectors at scales {_listed(SCALES)}"
    return [
        _claim(
            "bin-gradient-bounded",
            "abstract, 1, 3.2.2",
            "No score of a bin ever gets a gradient larger than 1 from the bin loss, whatever the "
            "offset error, and the gradients of a coordinate's scores sum to 0.",
            "the gradient is bounded, which avoids the gradient explosion problem",
            f"largest |gradient| {largest:.6g} (below 1 up to rounding), largest |sum| "
            f"{sums:.1g}, over {where}",
            largest <= 1 + ROUNDING and sums < ROUNDING,
        ),
        _claim(
            "bin-gradient-norm",
            "3.2.2",
            "The length of the gradient to a coordinate's scores is at most 1. (The norm read as "
            "Euclidean; read as the largest single gradient it is the claim before.)",
            "its norm is limited to [0, 1]",
            f"largest Euclidean norm {norm:.6g}, over {where}; p − y is longest, √2 = "
            f"{math.sqrt(2):.6g}, where a single wrong bin has probability 1",
            norm <= 1 + ROUNDING,
        ),
        _claim(
            "equation-8-size",
            "3.2.2",
            "The size of the gradient is 1 − p for the true bin's score and p for every other: "
            "p − y without its sign.",
            "equation 8: p − 1 where y = 1, p where y = 0, under a common sign",
            f"largest deviation of the gradient from p − y: {deviation:.1g}, over {where}",
            deviation < ROUNDING,
        ),
        _claim(
            "equation-8-as-printed",
            "3.2.2",
            "The gradient of equation 7 is equation 8 with its printed sign.",
            "equation 8: −(p − 1) where y = 1, −p where y = 0, summed over the four coordinates",
            f"the printed sign is that of the descent direction: deviation up to {as_printed:.3g}; "
            f"with the printed sum over coordinates, whose scores are separate, up to "
            f"{summed:.3g}",
            min(as_printed, summed) < ROUNDING,
        ),
        _claim(
            "bin-gradient-adapts",
            "3.2.2",
            "The bin loss weighs samples by what is predicted for them: the largest gradient is "
            "1 minus the probability of the true bin, so it fades as the prediction gets right.",
            "it takes samples into account with different gradient contributions based on the "
            "predicted probabilities",
            f"largest |gradient| is 1 − p of the true bin within {adapts:.1g}, over {where}; it "
            f"ranges from {largest_of_each.min():.3f} (p = {p_true.max():.3f}) to "
            f"{largest_of_each.max():.3f} (p = {p_true.min():.3f})",
            adapts < ROUNDING,
        ),
    ]


def _claims_on_offset_errors() -> list[dict[str, Any]]:
    width = BINS.widths[0].item()
    in_bins = torch.tensor([0.0, 1.0, 2.0, 4.0, 8.0]).double()
    _, _, to_scores = bin_classification(in_bins * width)
    of_gaussian = to_scores.abs().amax(-1).tolist()

    label = int(BINS.encode(torch.zeros(()))[0])
    distances = [1, 5, 9]
    scores = torch.zeros(len(distances), BINS.num_logits, dtype=torch.float64)
    scores[range(len(distances)), [label - d for d in distances]] = 5.0
    peaks = score_gradients(scores, torch.full((len(distances),), label)).abs().amax(-1)

    within = ERRORS[1:]
    _, to_offset, _ = bin_classification(within)
    _, l2 = regression(MSELoss(reduction="none"), within)
    outside = torch.tensor([-1000.0, -100.0, -10.0, 10.0, 100.0, 1000.0]).double()
    _, far, _ = bin_classification(outside)
    limit = 2 * BINS.max_offset / width**2
    steepest = torch.cat([to_offset, far]).abs().max().item()
    return [
        _claim(
            "error-size-sets-score-gradient",
            "abstract, 1",
            "Among samples whose predicted bin is wrong, the bin loss gives the larger offset "
            "error the larger gradient to a score. (Different penalties read as different by the "
            "size of the error; different by probability is a claim of its own.)",
            "it gives samples with different offset errors adequate penalties; different penalties "
            "for different samples",
            f"the same scores with the peak {_listed(distances)} bins off the truth: largest "
            f"|gradient| {_listed(peaks.tolist())}. Cross entropy sees no distance between "
            f"bins; with the scores of a Gaussian one bin wide, {_listed(in_bins.tolist())} bins "
            f"off, it is {_listed(of_gaussian)}, saturated at 1 like smooth L1",
            bool((peaks.diff() > ROUNDING).all()),
        ),
        _claim(
            "bin-gradient-bounded-in-offset",
            "3.2.2",
            "Read in the unit of L2's gradient, as a gradient to the predicted offset, the bin "
            "loss stays bounded too. Equation 8 does not say this: it holds because the bins end "
            "at ±a, here for scores of a Gaussian one bin wide, and is no small bound.",
            "more stable for all samples compared with L2",
            f"largest |gradient| {steepest:.4g} at errors up to {outside.max():g}, below "
            f"2a / w² = {limit:.4g}; but within the range of the bins (errors up to "
            f"{within[-1]:g}) {(to_offset / l2).min():.3g} to {(to_offset / l2).max():.3g} times "
            "L2's",
            steepest <= limit,
        ),
    ]


def _deviation_from_equation_4(beta: float, errors: Tensor) -> float:
    # The given errors may lack ±β, the edge between the two cases.
    errors = torch.cat([errors, errors.new_tensor([-beta, beta])])
    printed = torch.where(errors.abs() <= beta, errors / beta, errors.sign())
    return (smooth_l1(beta, errors)[1] - printed).abs().max().item()


def _random_scores() -> tuple[Tensor, Tensor]:
    """Draw scores (R, 4, n) at all SCALES and labels (R, 4) of all bins; equal in every call."""
    generator = torch.Generator().manual_seed(0)
    shape = (len(SCALES), VECTORS // 4, 4)
    scores = torch.randn(*shape, BINS.num_logits, generator=generator, dtype=torch.float64)
    scores *= torch.tensor(SCALES, dtype=torch.float64)[:, None, None, None]
    offsets = BINS.max_offset * torch.randn(shape, generator=generator)
    return scores.flatten(0, 1), BINS.encode(offsets)[..., 0].flatten(0, 1)


def _listed(values: list[float] | list[int] | tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
