"""Conversion of headerless telephone codecs (GSM 06.10 and G.722) to wav."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import soundfile

from unheard.errors import DataError, UnheardError, require

GSM_RATE = 8000  # Hz, by ETSI GSM 06.10
FILES_A_START = 50  # our choice: far below the limits on open files and on the length of a command

Found = dict[str, tuple[str, Path]]
"""New path below OUT -> (member name in the package, current path)."""


def to_wav(found: Found, skipped: dict[str, str]) -> Found:
    """Convert headerless telephone codecs to wav; other files are unchanged. Without a decoder the files are
    skipped.
    """
    g722 = {path: item for path, item in found.items() if path.endswith(".g722")}
    gsm = {path: item for path, item in found.items() if path.endswith(".gsm")}
    usable = {path: item for path, item in found.items() if path not in g722 and path not in gsm}
    for path, (member, source) in gsm.items():
        samples, rate = soundfile.read(
            source, samplerate=GSM_RATE, channels=1, format="RAW", subtype="GSM610", dtype="int16"
        )
        soundfile.write(source.with_suffix(".wav"), samples, rate, subtype="PCM_16")
        usable[str(Path(path).with_suffix(".wav"))] = (member, source.with_suffix(".wav"))
    try:
        _decode_g722([source for _, source in g722.values()])
    except UnheardError as error:
        skipped |= dict.fromkeys(g722, str(error))
        return usable
    return usable | {
        str(Path(path).with_suffix(".wav")): (member, source.with_suffix(".wav"))
        for path, (member, source) in g722.items()
    }


def _decode_g722(paths: Sequence[Path]) -> None:
    """Write a 16 kHz wav for each file, with many files in one ffmpeg process.

    Concatenating the files would need only one process. But the decoder's adaptive state continues across files, and
    the first 0.3 s of each would be wrong by up to a third of full scale.
    """
    if not paths:
        return
    require("imageio_ffmpeg", "fetch", "imageio-ffmpeg")
    import imageio_ffmpeg

    for start in range(0, len(paths), FILES_A_START):
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error"]
        for path in paths[start : start + FILES_A_START]:
            command += ["-f", "g722", "-i", str(path)]
        for index, path in enumerate(paths[start : start + FILES_A_START]):
            command += [
                "-map",
                f"{index}:a",
                "-bitexact",
                "-y",
                str(path.with_suffix(".wav")),
            ]  # bitexact: no version in the header
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DataError(f"ffmpeg could not decode g722 ({done.stderr.strip() or 'no reason given'})")
