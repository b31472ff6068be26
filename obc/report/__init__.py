"""From verdicts to pages: tables, figures, captions, the HTML page."""
