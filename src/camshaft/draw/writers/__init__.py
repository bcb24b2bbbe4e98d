"""Writers: one module for each format of a diagram, and the layout of pictures.

``measures`` has the sizes of texts and elements, ``rows`` finds heights, ``layout`` finds widths and draws edges.
"""
