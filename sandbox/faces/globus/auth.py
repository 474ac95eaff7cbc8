"""Globus Auth: the token endpoint, a login without a browser, and what clients check tokens with."""

from __future__ import annotations

import base64
import binascii
import json
import threading
import uuid
from datetime import UTC, datetime
from urllib.parse import quote

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import RSAAlgorithm

from sandbox.faces.http import Request, Response, answer
from sandbox.facility import FaultScript
from sandbox.globus.auth import AuthRefused, Client, Consent, GlobusAuth, Grant, Identity, Token, tells_of_person
from sandbox.globus.scopes import AUTH

PATHS = ("/v2/", "/jwk.json", "/.well-known/openid-configuration")
_SESSION = "session_"
_KEY = "rehearsal"


class AuthApi:
    """All of Globus Auth that its SDK asks for. Thread-safe."""

    def __init__(self, auth: GlobusAuth, faults: FaultScript) -> None:
        self._auth, self._faults = auth, faults
        self._lock = threading.Lock()
        self._made: RSAPrivateKey | None = None

    def handle(self, request: Request) -> Response:
        try:
            return self._handle(request)
        except AuthRefused as refused:
            return answer({"error": refused.error, "error_description": str(refused)}, refused.status)

    def _handle(self, request: Request) -> Response:
        words = [word for word in request.path.split("/") if word]
        match (request.method, words):
            case ("GET", ["jwk.json"]):
                return answer({"keys": [self._public()]})
            case ("GET", [".well-known", "openid-configuration"]):
                return answer(_configuration(request.host))
            case ("GET", ["v2", "oauth2", "authorize"]):
                return self._authorize(request)
            case ("POST", ["v2", "oauth2", "token"]):
                return self._token(request)
            case ("POST", ["v2", "oauth2", "token", "revoke"]):
                self._client(request)
                self._auth.revoke(_form(request, "token"))
                return answer({"active": False})
            case ("POST", ["v2", "oauth2", "token", ("introspect" | "validate")]):
                return self._introspect(request)
            case ("GET" | "POST", ["v2", "oauth2", "userinfo"]):
                return self._userinfo(request)
            case ("GET", ["v2", "api", "identities"]):
                return self._identities(request)
            case ("GET", ["v2", "api", "identities", identity, "consents"]):
                return self._consents(request, identity)
        return _refused(404, "NOT_FOUND", "no such resource")

    # -- tokens ----------------------------------------------------------------------------------------------

    def _client(self, request: Request) -> Client:
        """Who asks, by Basic auth or in the form. Raises AuthRefused."""
        kind, _, coded = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "basic":
            try:
                name, _, secret = base64.b64decode(coded, validate=True).decode().partition(":")
            except (binascii.Error, ValueError) as error:
                raise AuthRefused("invalid_client", "Invalid client authentication", status=401) from error
            return self._auth.client(name, secret)
        return self._auth.client(_form(request, "client_id"), _form(request, "client_secret"))

    def _token(self, request: Request) -> Response:
        client, kind = self._client(request), _form(request, "grant_type")
        if kind == "client_credentials":
            return self._granted(self._auth.by_credentials(client, _form(request, "scope")), client, request)
        if kind == "refresh_token":
            return self._granted(self._auth.by_refresh(client, _form(request, "refresh_token")), client, request)
        if kind == "authorization_code":
            grant = self._auth.by_code(
                client,
                _form(request, "code"),
                verifier=_form(request, "code_verifier"),
                redirect=_form(request, "redirect_uri"),
            )
            return self._granted(grant, client, request)
        raise AuthRefused("unsupported_grant_type", f"no such grant: {kind[:100]}")

    def _granted(self, grant: Grant, client: Client, request: Request) -> Response:
        early = self._faults.take("token_expiry", request)
        if early is not None:
            grant = self._auth.shortened(grant, float(early.get("in", 60)))
        told = [self._told(one, grant.refresh.get(one.server)) for one in grant.tokens]
        document = {**told[0], "other_tokens": told[1:]}
        if grant.openid is not None:
            document["id_token"] = self._id_token(grant.openid, client, issuer=request.host)
        return answer(document, cache_control="no-store")

    def _told(self, token: Token, refresh: str | None) -> dict[str, object]:
        document: dict[str, object] = {
            "access_token": token.value,
            "scope": token.scope,
            "expires_in": max(0, (token.expires_at - self._auth.now()) // 1_000_000),
            "token_type": "Bearer",
            "resource_server": token.server,
            "state": "_default",
        }
        return document if refresh is None else {**document, "refresh_token": refresh}

    def _id_token(self, token: Token, client: Client, *, issuer: str) -> str:
        now = self._auth.now() // 1_000_000
        claims = {
            **_person(token.identity),
            "iss": issuer,
            "aud": client.id,
            "iat": now,
            "exp": now + int(self._auth.life),
            "at_hash": uuid.uuid4().hex,
        }
        return jwt.encode(claims, self._key, algorithm="RS512", headers={"kid": _KEY})

    @property
    def _key(self) -> RSAPrivateKey:
        """Made when somebody first asks: it takes a good part of a second."""
        with self._lock:
            if self._made is None:
                self._made = generate_private_key(public_exponent=65537, key_size=2048)
            return self._made

    def _public(self) -> dict[str, object]:
        key: dict[str, object] = json.loads(RSAAlgorithm.to_jwk(self._key.public_key()))
        return {**key, "alg": "RS512", "kid": _KEY, "use": "sig"}

    def _introspect(self, request: Request) -> Response:
        client = self._client(request)
        token = self._auth.token(_form(request, "token"))
        if token is None or token.client != client.id:
            return answer({"active": False})
        ends = token.expires_at // 1_000_000
        return answer(
            {
                "active": True,
                "token_type": "Bearer",
                "scope": token.scope,
                "client_id": token.client,
                "username": token.identity.username,
                "name": token.identity.name,
                "email": token.identity.email,
                "exp": ends,
                "iat": ends - int(self._auth.life),
                "nbf": ends - int(self._auth.life),
                "sub": token.identity.id,
                "aud": [token.server, token.client],
                "iss": request.host,
            }
        )

    # -- a login ---------------------------------------------------------------------------------------------

    def _authorize(self, request: Request) -> Response:
        """The person of the rehearsal says yes to all. The code is shown, or goes where the client listens."""
        redirect = request.first("redirect_uri")
        session = {name: value for name, value in request.query if name.startswith(_SESSION)}
        code = self._auth.authorize(
            request.first("client_id"),
            scope=request.first("scope"),
            challenge=request.first("code_challenge"),
            redirect=redirect,
            offline=request.first("access_type") == "offline",
            session=session,
        )
        if redirect.startswith(("http://localhost:", "http://127.0.0.1:")) and not redirect.startswith(request.host):
            joint = "&" if "?" in redirect else "?"
            to = f"{redirect}{joint}code={quote(code)}&state={quote(request.first('state'))}"
            return Response(status=302, headers={"location": to})
        return Response(headers={"content-type": "text/plain; charset=utf-8"}, body=f"{code}\n".encode())

    # -- people ----------------------------------------------------------------------------------------------

    def _bearer(self, request: Request) -> Token | None:
        token = self._auth.token(request.bearer)
        return token if token is not None and token.server == AUTH and not token.refresh else None

    def _userinfo(self, request: Request) -> Response:
        token = self._bearer(request)
        if token is None:
            return _refused(401, "UNAUTHORIZED", "Call must be authenticated")
        if not tells_of_person(token):
            return _refused(403, "FORBIDDEN", "Call must be authenticated")
        return answer(_person(token.identity))

    def _identities(self, request: Request) -> Response:
        if self._bearer(request) is None:
            return _refused(401, "UNAUTHORIZED", "Call must be authenticated")
        wanted = {one for name in ("ids", "usernames") for text in request.all(name) for one in text.split(",")}
        found = [one for one in self._auth.identities() if {one.id, one.username} & wanted]
        return answer({"identities": [_identity(one) for one in found]})

    def _consents(self, request: Request, identity: str) -> Response:
        token = self._bearer(request)
        if token is None:
            return _refused(401, "UNAUTHORIZED", "Call must be authenticated")
        if token.identity.id != identity:
            return _refused(403, "FORBIDDEN", "another identity's consents")
        return answer({"consents": [_consent(one) for one in self._auth.consents(identity, token.client)]})


def _configuration(host: str) -> dict[str, object]:
    return {
        "issuer": host,
        "authorization_endpoint": f"{host}/v2/oauth2/authorize",
        "token_endpoint": f"{host}/v2/oauth2/token",
        "revocation_endpoint": f"{host}/v2/oauth2/token/revoke",
        "userinfo_endpoint": f"{host}/v2/oauth2/userinfo",
        "jwks_uri": f"{host}/jwk.json",
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS512"],
        "scopes_supported": ["openid", "email", "profile"],
        "claims_supported": ["sub", "preferred_username", "name", "email"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic"],
    }


def _person(identity: Identity) -> dict[str, object]:
    return {
        "sub": identity.id,
        "preferred_username": identity.username,
        "name": identity.name,
        "email": identity.email,
        "identity_set": [
            {"sub": identity.id, "username": identity.username, "name": identity.name, "email": identity.email}
        ],
    }


def _identity(identity: Identity) -> dict[str, object]:
    return {
        "id": identity.id,
        "username": identity.username,
        "name": identity.name,
        "email": identity.email,
        "organization": "Rehearsal",
        "status": "used",
        "identity_type": "login",
        "identity_provider": str(uuid.uuid5(uuid.NAMESPACE_DNS, "example.org")),
    }


def _consent(consent: Consent) -> dict[str, object]:
    at = datetime.fromtimestamp(consent.at / 1e6, UTC).isoformat()
    name = consent.path[-1]
    return {
        "id": consent.id,
        "client": consent.client,
        "scope": str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
        "scope_name": name,
        "effective_identity": consent.identity,
        "dependency_path": list(consent.ids),
        "status": "approved",
        "allows_refresh": True,
        "auto_approved": False,
        "atomically_revocable": len(consent.ids) > 1,
        "created": at,
        "updated": at,
        "last_used": at,
    }


def _form(request: Request, name: str) -> str:
    return next((value for key, value in request.form() if key == name), "")


def _refused(status: int, code: str, text: str) -> Response:
    error = {"status": str(status), "id": str(uuid.uuid4()), "code": code, "detail": text, "title": text}
    return answer({"errors": [error], "error": code.lower(), "error_description": text}, status)
