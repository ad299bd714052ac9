"""Redis: every key of ours begins with the name, also in a database that is in use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from celery_postgres.compare import processes, urls
from celery_postgres.compare.failure import Failure, worded

from .place import Place, Usage

if TYPE_CHECKING:
    from collections.abc import Collection

_PERSISTENCE = ("appendonly", "appendfsync", "save", "maxmemory", "maxmemory-policy")


class RedisPlace(Place):
    """A prefix of keys: kombu and Celery's backend both know one, also for publish and subscribe."""

    kind: ClassVar = "redis"
    title: ClassVar[str] = "Redis"
    schemes: ClassVar[tuple[str, ...]] = ("redis", "rediss", "redis+socket")
    result_schemes: ClassVar[tuple[str, ...]] = ("redis", "rediss", "redis+socket", "socket")

    def reach(self) -> None:
        try:
            import redis
        except ImportError as error:
            raise Failure(f"the package redis is not installed: {_INSTALL}") from error
        where = urls.masked(self.url)
        try:
            self._client.ping()
        except redis.AuthenticationError as error:
            raise Failure(
                f"Redis at {where} does not let us in ({worded(error)}): correct user and password in the URL"
            ) from error
        except ValueError as error:  # what it says may be a piece of the password
            raise Failure(
                f"the URL {where} cannot be read: write / in a password as %2F, @ as %40 and # as %23"
            ) from error
        except (redis.RedisError, OSError) as error:
            raise Failure(
                f"no Redis answers at {where} ({worded(error)}): start it, or correct the URL"
            ) from error

    def version(self) -> str:
        return str(self._info("server").get("redis_version", ""))

    def settings(self) -> dict[str, str]:
        import redis

        found: dict[str, str] = {}
        for name in _PERSISTENCE:
            try:
                found.update({key: str(value) for key, value in self._client.config_get(name).items()})
            except redis.RedisError:  # providers hide CONFIG
                found[name] = "not readable"
        return found

    def prepare(self) -> None:
        """Nothing: a key comes with its first value."""

    def broker(self, options: dict[str, Any]) -> dict[str, Any]:
        return {
            "broker_url": self.url,
            "broker_transport_options": {**options, "global_keyprefix": self._prefix},
        }

    def results(self, options: dict[str, Any]) -> dict[str, Any]:
        return {
            "result_backend": self.url,
            "result_backend_transport_options": {**options, "global_keyprefix": self._prefix},
        }

    def clean(self) -> None:
        for _ in range(2):  # a key may have come while we were looking
            keys = self._keys()
            for begin in range(0, len(keys), 500):
                self._client.delete(*keys[begin : begin + 500])

    def listing(self) -> set[str] | None:
        return set(self._client.scan_iter("*", count=1000))

    def keeps(self, task_ids: Collection[str]) -> set[str] | None:
        """Whether in a queue or with those that workers have taken."""
        messages = [
            *(text for key in self._keys("list") for text in self._client.lrange(key, 0, -1)),
            *(text for key in self._keys("hash") for text in self._client.hvals(key)),
        ]
        return {id_ for id_ in task_ids if any(id_ in text for text in messages)}

    def process_id(self) -> int | None:
        pid = int(self._info("server").get("process_id", 0))
        return pid if pid and processes.command_of(pid).startswith(("redis", "valkey", "keydb")) else None

    def data_folder(self) -> Path | None:
        import redis

        try:
            found = self._client.config_get("dir").get("dir")
        except redis.RedisError:  # providers hide CONFIG
            return None
        return Path(found) if found and self.process_id() is not None else None

    def usage(self) -> Usage:
        """As the server itself says, also from far away."""
        info = self._info()
        log = info.get("aof_current_size")
        names = ("used_cpu_sys", "used_cpu_user", "used_cpu_sys_children", "used_cpu_user_children")
        return Usage(
            cpu_s=sum(float(info.get(name, 0.0)) for name in names) if names[0] in info else None,
            memory_bytes=int(info["used_memory_rss"]) if "used_memory_rss" in info else None,
            log_bytes=int(log) if log is not None else None,
        )

    def close(self) -> None:
        if "_client" in self.__dict__:
            self._client.close()

    @property
    def _prefix(self) -> str:
        return f"{self.name}:"

    def _keys(self, kind: str | None = None) -> list[str]:
        return list(self._client.scan_iter(f"{self._prefix}*", count=1000, _type=kind))

    def _info(self, *section: str) -> dict[str, Any]:
        return dict(self._client.info(*section))

    @cached_property
    def _client(self) -> Any:
        import redis

        url = self.url
        if urls.scheme_of(url) in ("redis+socket", "socket"):
            url = "unix://" + url.partition("://")[2].replace("virtual_host=", "db=")
        # Celery knows names of the module `ssl` in a URL, and takes the certificates from its settings.
        url = re.sub("(?<=ssl_cert_reqs=)CERT_([A-Z]+)", lambda match: match[1].lower(), url)
        asked = self.celery.get("broker_use_ssl") or self.celery.get("redis_backend_use_ssl")
        tls = dict(asked) if isinstance(asked, Mapping) else {}
        if asked:
            url = re.sub("^redis:", "rediss:", url, flags=re.IGNORECASE)
        return redis.Redis.from_url(
            url, decode_responses=True, socket_connect_timeout=3, socket_timeout=10, **tls
        )


_INSTALL = "pip install 'celery[redis]'"
