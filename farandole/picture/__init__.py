"""A flow's picture, drawn from the code that runs.

graph     what there is to draw: decisions, events, and who causes what; from bindings and annotations alone
depth     in which layer each of them lies
terminal  lines of text, 100 columns
layout    where everything lies on a sheet, so that no two labels can meet
svg       the sheet
pages     the pictures that docs/ holds, and whether they are current
"""
