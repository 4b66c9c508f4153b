"""What the dashboard's process does for room alone: one function for each target that fails without
it, with its gain. Preloaded imports and `gc.freeze` were here and are not: no measurement showed
that a target fails without them (docs/LOG.md, 2026-11-29).

Of Streamlit the dashboard imports what its documentation names, with two exceptions:
`streamlit.web.cli.main` (`process.py`), the command line as the `streamlit` script calls it,
because signals and limits must be set before in the same process; and
`streamlit.delta_generator.DeltaGenerator`, the type of a container in signatures.
"""

import resource


def raise_descriptor_limit(most: int = 65_536) -> int:
    """Raise the soft limit of open files as far as the hard one allows, up to `most`; the limit
    from then on.

    Target: 200 open pages. Each takes a websocket and an event loop, four descriptors, and pages
    read files beside; usual soft limits are 1,024 (Linux) and 256 (macOS).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
