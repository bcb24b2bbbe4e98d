"""Pictures of loops: one chart and one layout, several writers."""
