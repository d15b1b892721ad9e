"""Settings of the baselines."""

from typing import Literal

from listenwell.section import Section


class WebRtcConfig(Section):
    """How WebRTC VAD listens."""

    aggressiveness: Literal[0, 1, 2, 3] = 2
    """How strict it is: at 0 most frames are called voiced, at 3 the fewest."""
    frame_ms: Literal[10, 20, 30] = 20
    """Length of one frame in milliseconds."""
