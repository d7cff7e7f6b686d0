"""The pages of the window; each module describes and makes one page."""
