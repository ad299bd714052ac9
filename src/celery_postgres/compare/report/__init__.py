"""What a comparison found, and how it is shown: as text, as JSON, as a page."""
