"""Tables and arrays in, figures and charts out."""
