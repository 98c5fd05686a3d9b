"""Which image a label file belongs to, and how large it is: label files do not say, or are not to be believed."""

from collections import defaultdict
from pathlib import Path, PurePosixPath

from carpus.errors import DataError
from carpus.formats import check_size, images, stem


class Sizes:
    """Names and sizes of images, from a folder of images or one size for all.

    Args:
        folder: where the images are, searched with its subfolders; an image's size is read when it is asked for.
        size: (H, W) of every image whose label file does not tell, where there is no folder.

    Raises:
        DataError: a folder without an image, or an impossible size.
    """

    def __init__(self, folder: Path | str | None = None, size: tuple[int, int] | None = None):
        self.folder = None if folder is None else Path(folder)
        self.size = None if size is None else check_size(size, "size")
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        self._by_base: dict[str, list[Path]] = defaultdict(list)
        if self.folder is None:
            return
        root = self.folder.parent if self.folder.is_file() else self.folder
        for path in images.find(self.folder):
            name = stem(path.relative_to(root).as_posix())
            self._by_stem[name].append(path)
            self._by_base[PurePosixPath(name).name].append(path)
        self._root = root
        if not self._by_stem:
            raise DataError(f"{self.folder}: holds no images")

    def path(self, name: str) -> Path | None:
        """The file of an image by the name that `find` gave; None where there is no folder of images."""
        return None if self.folder is None else self._root / name

    def find(self, name: str, source: str, own: tuple[int, int] | None = None) -> tuple[str, tuple[int, int]]:
        """The name and (H, W) of the image that a label file means.

        Args:
            name: the image as the label file or its own path names it; the suffix is not believed, and neither is
                the folder if no image there has the name but just one elsewhere does.
            source: the label file, for the error.
            own: (H, W) that the label file gives, believed where there is no folder of images.

        Returns:
            The image's path relative to the folder (`name` itself without a folder) and its size.

        Raises:
            DataError: no such image, more than one (what is no image does not count), or nothing that tells the size.
        """
        if self.folder is None:
            size = own or self.size
            if size is None:
                raise DataError(
                    f"{source}: does not tell how large its images are; give the folder of images (--images DIR)"
                    " or their size (--size HxW)"
                )
            return name, check_size(size, source)
        # The last part of a name may be the suffix of an image, another suffix, or the end of a DICOM UID.
        named = [PurePosixPath(stem(name)), PurePosixPath(name).with_suffix("")]
        found = next((paths for path in named if (paths := self._by_stem.get(path.as_posix()))), None)
        found = found or next((paths for path in named if (paths := self._by_base.get(path.name))), [])
        if not found:
            raise DataError(f"{source}: {name}: there is no such image in {self.folder}")
        found = images.told_apart(found, lambda _: name, lambda _: None) or found
        if len(found) > 1:
            several = ", ".join(path.relative_to(self._root).as_posix() for path in found[:3])
            raise DataError(f"{source}: {name}: could be any of {several}")
        return found[0].relative_to(self._root).as_posix(), images.size(found[0])
