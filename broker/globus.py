"""Globus for a whole installation: a person's login, what the service client can, and what lacks.

Sites and places name collections; one identity reaches them all: a service client, or the person who has logged in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from broker.credentials import Reference, looked_up
from broker.errors import NeedsPerson, UsageError
from connectors.errors import CredentialError, NotThere, SiteError
from connectors.globus_api.ends import NoEnd, end_of
from connectors.globus_api.faults import GLOBUS, LOGIN
from connectors.globus_api.identity import PersonIdentity, client_id_of, native_client, token_of, transfer_scope
from connectors.globus_api.tokens import Login, TokenFile
from connectors.model import Finding
from connectors.registry import Clock, GlobusConfig, PlaceConfig, SiteConfig

if TYPE_CHECKING:
    from connectors.globus_api.api import GlobusApi

Ask = Callable[[str], str]
"""Shows an address to a person; answers the code that comes of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """What a session must have, where a facility asks for it."""

    domains: Sequence[str] = ()
    identities: Sequence[str] = ()
    policies: Sequence[str] = ()
    mfa: bool = False

    def words(self) -> dict[str, Any]:
        """As the SDK calls them."""
        found: dict[str, Any] = {
            "session_required_single_domain": list(self.domains),
            "session_required_identities": list(self.identities),
            "session_required_policies": list(self.policies),
        }
        words = {name: value for name, value in found.items() if value}
        return {**words, "session_required_mfa": True} if self.mfa else words


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The collections of a site document, and which of them are read and written over HTTPS."""

    collections: Mapping[str, str] = field(default_factory=dict)
    """Who names it, by collection."""
    https: Sequence[str] = ()


def wanted_of(configs: Mapping[str, SiteConfig], places: Mapping[str, PlaceConfig]) -> Wanted:
    """Entries whose collection makes no sense are told elsewhere, and left out."""
    named = [(name, config.collection) for name, config in configs.items()]
    named += [(place.side, place.collection) for place in places.values()]
    found: dict[str, str] = {}
    for side, collection in named:
        try:
            end = end_of(side, configs=configs, places=places) if collection else None
        except NoEnd:
            continue
        if end is not None:
            found[end.collection] = f"{found[end.collection]}, {side}" if end.collection in found else side
    https = [c.collection.lower() for c in configs.values() if c.options.get("files") == "collection" and c.collection]
    return Wanted(collections=found, https=[one for one in dict.fromkeys(https) if one in found])


# -- logging in --------------------------------------------------------------------------------------------


def log_in(
    config: GlobusConfig,
    wanted: Wanted,
    *,
    ask: Ask,
    clock: Clock,
    consents: Sequence[str] = (),
    https: Sequence[str] = (),
    demands: Demands | None = None,
) -> Login:
    """Let a person log in and consent, and keep the tokens. Once more where it turns out only then which collections
    want a consent of their own: Globus tells that to nobody who has not logged in.

    Raises UsageError, NeedsPerson.
    """
    if config.tokens is None:
        raise UsageError("there is no folder for tokens")
    file = _file(config)
    known = _known(file)
    ours = {*known.consents, *consents} & {*wanted.collections, *consents}
    asked = sorted(one.lower() for one in ours)
    servers = sorted({*wanted.https, *https})
    login = _flow(config, asked, servers, ask=ask, clock=clock, demands=demands or Demands())
    file.write(login)
    more, without = _kinds(config, [one for one in wanted.collections if one not in asked])
    if more:
        login = _flow(config, sorted({*asked, *more}), servers, ask=ask, clock=clock, demands=demands or Demands())
    login = Login(
        tokens=login.tokens,
        identity=login.identity,
        name=login.name,
        consents=login.consents,
        without=without,
        at=login.at,
    )
    file.write(login)
    return login


def _flow(
    config: GlobusConfig, consents: Sequence[str], https: Sequence[str], *, ask: Ask, clock: Clock, demands: Demands
) -> Login:
    from globus_sdk import GlobusError  # noqa: PLC0415 - slow to import
    from globus_sdk.scopes import AuthScopes, GCSCollectionScopes  # noqa: PLC0415

    client = native_client(config)
    scopes = [transfer_scope(consents), AuthScopes.openid, AuthScopes.profile]
    scopes += [GCSCollectionScopes(one).https for one in https]
    try:
        client.oauth2_start_flow(scopes, refresh_tokens=True, prefill_named_grant="crossfade")
        code = ask(client.oauth2_get_authorize_url(**demands.words())).strip()
        if not code:
            raise NeedsPerson("no code was given", help=LOGIN)
        answer = client.oauth2_exchange_code_for_tokens(code)
        identity, name = _who(config, answer.by_resource_server)
    except GlobusError as error:
        raise NeedsPerson(
            f"Globus does not take the login ({type(error).__name__})", help="try again, with a fresh code"
        ) from None
    tokens = {server: token_of(values) for server, values in answer.by_resource_server.items()}
    return Login(tokens=tokens, identity=identity, name=name, consents=tuple(consents), at=clock())


def _who(config: GlobusConfig, tokens: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    from globus_sdk import AccessTokenAuthorizer, AuthClient  # noqa: PLC0415

    token = tokens.get("auth.globus.org")
    if token is None:
        return "", ""
    client = AuthClient(authorizer=AccessTokenAuthorizer(token["access_token"]), base_url=config.auth_url or None)
    told = client.userinfo()
    return str(told.get("sub") or ""), str(told.get("preferred_username") or "")


def _kinds(config: GlobusConfig, collections: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those that want a consent, and those that want none; what cannot be asked now is in neither."""
    api = _api(config)
    more: list[str] = []
    without: list[str] = []
    try:
        for one in collections:
            try:
                (more if api.collection(one).wants_consent else without).append(one)
            except SiteError:
                continue
    finally:
        api.close()
    return more, without


def _known(file: TokenFile) -> Login:
    try:
        return file.read()
    except CredentialError:
        return Login()


def _file(config: GlobusConfig) -> TokenFile:
    if config.client_secret:
        raise UsageError(
            "the site document names a service client for Globus: nobody needs to log in",
            help=f"{LOGIN} --service shows whether it is let in",
        )
    try:
        return PersonIdentity(config).file()
    except CredentialError as error:
        raise UsageError(str(error), help=error.help) from error


# -- what there is, without asking anybody -----------------------------------------------------------------


def globus_references(config: GlobusConfig, wanted: Wanted) -> Sequence[Reference]:
    """As for sites: who we are to Globus, and the collections that were not consented to. Nothing where the site
    document names neither a client nor a collection."""
    if not config.client_id and not wanted.collections:
        return ()
    return list(_references(config, wanted))


def _references(config: GlobusConfig, wanted: Wanted) -> Iterator[Reference]:
    try:
        client_id_of(config)
    except CredentialError as error:
        shown = config.client_id or "none"
        yield Reference(site=GLOBUS, name="client_id", reference=shown, ok=False, detail=str(error), help=error.help)
        return
    yield looked_up(GLOBUS, "client_id", config.client_id)
    if config.client_secret:
        yield looked_up(GLOBUS, "client_secret", config.client_secret)
        return
    file = _file(config)
    try:
        login = file.read()
    except CredentialError as error:
        yield Reference(
            site=GLOBUS, name="login", reference=f"file:{file.path}", ok=False, detail=str(error), help=LOGIN
        )
        return
    # an access token that can be renewed does not end for us
    ends = [token.expires_at for token in login.tokens.values() if not token.refresh]
    until = min(ends) * 1_000_000 if ends else None
    yield Reference(
        site=GLOBUS,
        name="login",
        reference=f"file:{file.path}",
        ok=True,
        mode=f"{file.path.stat().st_mode & 0o777:04o}",
        expires_at=until,
        detail=login.name or login.identity,
    )
    yield from _missing(login, wanted)


def _missing(login: Login, wanted: Wanted) -> Iterator[Reference]:
    for collection, who in wanted.collections.items():
        if collection not in login.consents and collection not in login.without:
            help = f"{LOGIN} --consent {collection}"  # noqa: A001 - the word of our errors
            what = f"the collection of {who} was not consented to"
            yield Reference(
                site=GLOBUS, name=f"consent of {who}", reference=collection, ok=False, detail=what, help=help
            )
        elif collection in wanted.https and collection not in login.tokens:
            help = f"{LOGIN} --https {collection}"  # noqa: A001
            what = f"the files of {who} go over HTTPS, which the login did not ask for"
            yield Reference(site=GLOBUS, name=f"https of {who}", reference=collection, ok=False, detail=what, help=help)


def collection_warnings(config: SiteConfig) -> Sequence[str]:
    """What stands between us and a site's collection, as sentences with their commands. Asks nobody."""
    if not config.collection or not config.globus.client_id:
        return ()
    wanted = wanted_of({config.name: config}, {})
    found = [one for one in globus_references(config.globus, wanted) if not one.ok]
    return [f"collection: {one.detail}; `{one.help}`" for one in found]


# -- asking ------------------------------------------------------------------------------------------------


def collection_finding(config: SiteConfig, *, api: GlobusApi | None = None) -> Finding:
    """Is a site's collection there, are we let in, and does its root lie on it? Three calls at most."""
    try:
        end = end_of(config.name, configs={config.name: config}, places={})
    except NoEnd as error:
        return Finding(step="collection", ok=False, detail=str(error), help="mend collection_base or root")
    if not config.globus.client_id:
        detail = f"{end.collection}: the site document names no globus.client_id; data goes through this machine"
        return Finding(step="collection", ok=None, detail=detail)
    mine = api or _api(config.globus)
    try:
        return _looked(mine, end.collection, end.top)
    except NotThere:
        detail = f"{end.collection}: there is no folder {end.top or '/'} on it"
        return Finding(step="collection", ok=False, detail=detail, help="make it, or mend root or collection_base")
    except SiteError as error:
        return Finding(step="collection", ok=False, detail=str(error), help=error.help)
    finally:
        if api is None:
            mine.close()


def _looked(api: GlobusApi, collection: str, top: str) -> Finding:
    from connectors.globus_api.storage import Storage  # noqa: PLC0415 - slow to import

    known = api.collection(collection)
    Storage(api, collection).list(top, limit=1)
    https = "small files over HTTPS" if known.https else "no HTTPS"
    return Finding(
        step="collection", ok=True, detail=f"{known.name} ({known.kind or 'of no told kind'}, {https}) answers"
    )


def service_findings(
    config: GlobusConfig, configs: Mapping[str, SiteConfig], *, api: GlobusApi | None = None
) -> Sequence[Finding]:
    """Whether the identity is let in at each site's collection."""
    mine = api or _api(config)
    try:
        found = [(name, collection_finding(one, api=mine)) for name, one in configs.items() if one.collection]
    finally:
        if api is None:
            mine.close()
    return [Finding(step=name, ok=one.ok, detail=one.detail, help=one.help) for name, one in found]


def _api(config: GlobusConfig) -> GlobusApi:
    from connectors.globus_api.api import GlobusApi  # noqa: PLC0415 - slow to import

    return GlobusApi(config)
