"""A request's journey: everything that is decided on its way, as pure code. Inputs → effects, like the rest of the core.

`frames` are what nodes say to each other. The data plane's threads and the simulator both run this; neither decides
anything itself. Source: DESIGN section 4.
"""
