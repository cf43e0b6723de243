"""The Debian packages with usable sound files, the domain of each file, and three corpora made of them.

Every package was downloaded and inspected once. The sizes are the download and the duration of a tier. The sounds stay
under the licences in each package's ``usr/share/doc/PACKAGE/copyright`` (mostly GPL, CC BY(-SA) and CC0).
"""

from __future__ import annotations

import difflib
import re
from typing import Literal

from unheard.errors import DataError

Domain = Literal["speech", "music", "effects"]

SPEECH = (
    *(f"asterisk-core-sounds-{language}-g722" for language in ("en", "es", "fr", "it", "ru")),
    "asterisk-prompt-es-co",
    "asterisk-prompt-fr-armelle",
    "asterisk-prompt-it-menardi-wav",
    "tuxpaint-stamps-default",
    "klettres-data",
    "ktuberling-data",
    "qabcs-data",
)
MUSIC = (
    "warzone2100-music",
    "ufoai-music",
    "planetblupi-music-ogg",
    "wesnoth-1.16-music",
    "nexuiz-music",
    "singularity-music",
    "fretsonfire-songs-sectoid",
    "fretsonfire-songs-muldjord",
    "drascula-music",
    "pushover-data",
    "asterisk-moh-opsound-g722",
)
EFFECTS = (
    "hydrogen-drumkits",
    "hydrogen-data",
    "sonic-pi-samples",
    "lmms-common",
    "lomiri-sounds",
    "scratch",
    "sound-icons",
    "sound-theme-freedesktop",
    "ufoai-sound",
    "colobot-common-sounds",
    "hedgewars-data",
    "megaglest-data",
)
LARGE = (
    "naev-data",
    "supertux-data",
    "widelands-data",
    "freedroidrpg-data",
    "unknown-horizons",
    "warmux-data",
    "hyperrogue-music",
    "frozen-bubble-data",
    "wesnoth-1.16-data",
    "codec2-examples",
    "pocketsphinx-testdata",
)
SOUNDFONTS = ("fluid-soundfont-gm", "timgm6mb-soundfont")
"""Soundfonts that the gm tasks of `unheard.datasets.filename_labels` render; .sf2 files have no manifest rows."""

TIERS: dict[str, tuple[str, ...]] = {
    "S": (
        "asterisk-core-sounds-en-g722",
        "klettres-data",
        "sonic-pi-samples",
        "hydrogen-data",
        "ufoai-sound",
        "warzone2100-music",
    ),
    "M": SPEECH + MUSIC + EFFECTS,
    "L": SPEECH + MUSIC + EFFECTS + LARGE,
    "soundfonts": SOUNDFONTS,
}
"""S: 0.2 GB, 6 h. M: 1.8 GB, 31 h. L: 3.5 GB, 40 h."""

_DOMAINS: tuple[tuple[str, Domain], ...] = (  # the first match of "package/member" counts
    (r"^tuxpaint-stamps-default/.*_desc[_.]", "speech"),
    (r"^(tuxpaint-stamps-default/|qabcs-data/.*/noises/)", "effects"),
    (r"^hedgewars-data/.*/voices/", "speech"),
    (r"^(asterisk-(core|prompt)|klettres|ktuberling|qabcs|codec2|pocketsphinx)", "speech"),
    (r"^lomiri-sounds/.*/ringtones/|^scratch/.*/Music Loops/", "music"),
    (
        r"^[^/]*-(music|songs|moh)(-|/)|^pushover-data/|(?i:/(music|snd/music|audio/music|sounds?/music)/)|(?i:music\w*\.pk3)",
        "music",
    ),
    (r"", "effects"),
)


def packages(name: str) -> tuple[str, ...]:
    """Return the packages of a tier (S, M, L, soundfonts), or one package of a tier.

    Raises
    ------
    DataError
        For any other name.
    """
    known = {each.lower(): each for each in (*TIERS, *sorted({*TIERS["L"], *SOUNDFONTS}))}
    if name not in known.values():
        near = [known[key] for key in difflib.get_close_matches(name.lower(), known, n=3)]
        others = f"{', '.join(TIERS)}, or one of {len(known) - len(TIERS)} packages such as {TIERS['S'][0]}"
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose {others}"
        raise DataError(f"there is no corpus {name!r}; {hint}")
    return TIERS.get(name, (name,))


def domain(package: str, member: str) -> Domain:
    """Return the domain of the file ``member`` (its path inside the package), from package and path."""
    return next(kind for pattern, kind in _DOMAINS if re.search(pattern, f"{package}/{member}"))
