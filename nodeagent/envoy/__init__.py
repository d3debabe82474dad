"""The stock Envoy that judges redirected flows: a pure core that writes its configuration, and shells that
run it and ask it.

listeners → files → Envoy reads them by itself → its admin socket says when it serves them
"""
