"""From a reference to the folder it means: a name under the root, a path, or an address elsewhere."""

from __future__ import annotations

from pathlib import Path

from store.errors import StoreNotFoundError
from store.folder import Folder, LocalFolder, is_name
from store.head import RECIPE
from store.layout import check_single, is_remote, resolve, split_reference


def locate(reference: str | Path, dataset: str | None = None) -> Folder:
    """The folder of one store. See `store.layout.resolve` for names and paths.

    An address may name the store itself, or the folder that holds one store per data set.

    Raises:
        StoreNotFoundError: nothing is there, or several are and none was chosen.
        FusionError: the reference joins several stores by `+`.
    """
    if not is_remote(reference):
        return LocalFolder(resolve(reference, dataset))
    from store.sharing.remote import RemoteFolder
    from store.sharing.settings import default_cache

    first, *others = split_reference(reference)
    if not is_remote(first) or any(map(is_remote, others)):  # else the `+` may belong to the address
        check_single(reference)
    url, cache = str(reference).rstrip("/"), default_cache()
    base = RemoteFolder(url, cache)
    if base.exists(RECIPE):
        return base
    if dataset is not None:
        inside = RemoteFolder(f"{url}/{dataset}", cache)
        if inside.exists(RECIPE):
            return inside
        raise StoreNotFoundError(f"{url}: no feature store there, nor in {dataset}/ below it (no recipe.json).")
    names = [name for name in base.names("") or [] if is_name(name)]
    found = [name for name in names if base.exists(f"{name}/{RECIPE}")]
    if len(found) == 1:
        return RemoteFolder(f"{url}/{found[0]}", cache)
    if found:
        raise StoreNotFoundError(f"{url}: holds several stores. Choose one with --dataset: {', '.join(found)}.")
    check_single(reference)
    raise StoreNotFoundError(
        f"{url}: no feature store there (no recipe.json). Name the folder of one store, as in {url}/NAME/DATASET."
    )
