"""Photos whose encoding ends its process: by a crash, by memory, by a broken GPU, by taking too long.

A runner tries their bundle again in another process; Dataflow gives up the job after the fourth. So word is
left of each photo before it is encoded, and taken back afterwards. A photo of which there is word already is
encoded by itself; if it has been before, it is `failed`. A run that has come to its end removes what is left.
"""

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from uuid import uuid4

from transforms.elements import Encoded, LoadedPhoto, Photo
from transforms.storage.files import delete_if_there, join, list_folder, write_over
from transforms.storage.gcs import CONNECTIONS
from transforms.storage.status import ConflictError

ENDED_ITS_PROCESS = "encoding it ended its process, twice"
_TOGETHER, _BY_ITSELF = "encoding", "encoding-by-itself"
_WORD = re.compile(rf"(?P<folder>.+)/(?:{_TOGETHER}|{_BY_ITSELF})-[0-9a-f]{{64}}", re.DOTALL)
# One at a time in this process, too: if it ended with two in it, both would count as what ended it.
_one_by_itself = threading.Lock()

Encode = Callable[[list[LoadedPhoto]], list[Encoded]]
Fail = Callable[[LoadedPhoto, str], Encoded]


def remove_words(folder: str) -> None:
    """Deletes what is left in a run's folder, and in the folders beside it of runs that began before.

    That is word of photos that ended their process twice, and of photos in progress when a run was killed. At
    worst an earlier run that still goes on tries such a photo once more.
    """
    for file in list_folder(folder.rpartition("/")[0]):
        word = _WORD.fullmatch(file.uri)
        if word is not None and word["folder"] <= folder:  # ids of runs sort by time
            delete_if_there(file.uri)


class Attempts:
    """Encodes photos, and leaves word of each while it does.

    Args:
        folder: of the run, for a small file a photo; all workers reach it.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def encode(self, group: list[LoadedPhoto], encode: Encode, fail: Fail) -> list[Encoded]:
        """What `encode` makes of the photos, or `fail` of those that are not to be tried any more."""
        with ThreadPoolExecutor(min(len(group), CONNECTIONS)) as threads:
            is_new = list(threads.map(lambda loaded: self._leave_word(_TOGETHER, loaded.photo), group))
            new = [loaded for loaded, first in zip(group, is_new, strict=True) if first]
            results = encode(new) if new else []
            for loaded in new:
                threads.submit(self._take_back, _TOGETHER, loaded.photo)
        for loaded, first in zip(group, is_new, strict=True):
            if not first:
                results += self._encode_by_itself(loaded, encode, fail)
        return results

    def _encode_by_itself(self, loaded: LoadedPhoto, encode: Encode, fail: Fail) -> list[Encoded]:
        with _one_by_itself:
            if not self._leave_word(_BY_ITSELF, loaded.photo):
                return [fail(loaded, ENDED_ITS_PROCESS)]  # word stays, in case the bundle is tried yet again
            results = encode([loaded])
            for kind in (_TOGETHER, _BY_ITSELF):
                self._take_back(kind, loaded.photo)
            return results

    def _leave_word(self, kind: str, photo: Photo) -> bool:
        """False if it is there already."""
        try:
            write_over(self._file(kind, photo), uuid4().bytes, None)
        except ConflictError:
            return False
        except OSError:  # writing the .rgc will say why
            return True
        return True

    def _take_back(self, kind: str, photo: Photo) -> None:
        with suppress(OSError):  # then it is encoded by itself, should it be tried again
            delete_if_there(self._file(kind, photo))

    def _file(self, kind: str, photo: Photo) -> str:
        return join(self._folder, f"{kind}-{photo.uri_sha256()}")
