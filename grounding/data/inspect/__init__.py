"""Looking at a built data set: tables and plots, contact sheets, checks."""
