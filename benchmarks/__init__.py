"""Speed, memory and error of the methods, printed as markdown tables."""
