"""How fast the magnitude decays over the echoes: R2*, and R2' with an R2 measured beside it."""
