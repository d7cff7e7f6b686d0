"""The look of the window: tokens, fonts, icons and the one generated style sheet."""
