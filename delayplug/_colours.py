"""The colours of all pictures: those of Okabe and Ito, readable in print and for the colour-blind, and three greys."""

BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PINK, SKY = "#CC79A7", "#56B4E9"
DARK, GREY, LIGHT = "#333333", "#999999", "#C8C8C8"
