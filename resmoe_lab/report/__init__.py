"""Standalone HTML reports with sliders that need no kernel."""
