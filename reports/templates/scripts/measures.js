// The choice of a measure: the other plots of a figure are in a block of the page until one is asked for.
