"""Other people's loops and engines: reports of what they do, and camshaft's engine in their terms."""
