"""Images: the builds that were tried, and who ran a server from what."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from ...model import LOCAL_NODE, BuildOutcome, BuildRecord, ImageUse
from ..migrations.schema import builds, image_uses
from .store import Store


class ImageRows(Store):
    """What is known of built images besides what Docker says itself."""

    def write_build(self, record: BuildRecord) -> None:
        """Record one build that has ended, however it did."""
        row = {
            "node": record.node,
            "tag": record.tag,
            "base": record.base,
            "user_name": record.user,
            "summary": record.summary,
            "started_at": record.started_at,
            "ended_at": record.ended_at,
            "outcome": record.outcome.value,
            "steps": record.steps,
            "reused": record.reused,
            "why": record.why,
            "log": record.log,
        }
        with self._write() as connection:
            connection.execute(sa.insert(builds).values(row))

    def builds(
        self, *, since: datetime | None = None, limit: int = 1000, node: str = LOCAL_NODE
    ) -> tuple[BuildRecord, ...]:
        """Return the newest `limit` builds, the newest first."""
        wanted = sa.select(builds).where(builds.c.node == node)
        if since is not None:
            wanted = wanted.where(builds.c.ended_at >= since)
        with self._read() as connection:
            rows = connection.execute(wanted.order_by(builds.c.id.desc()).limit(limit)).all()
        return tuple(
            BuildRecord(
                node=row.node,
                tag=row.tag,
                base=row.base,
                user=row.user_name,
                summary=row.summary,
                started_at=row.started_at,
                ended_at=row.ended_at,
                outcome=BuildOutcome(row.outcome),
                steps=row.steps,
                reused=row.reused,
                why=row.why,
                log=row.log,
            )
            for row in rows
        )

    def note_use(self, use: ImageUse) -> None:
        """Record that a user starts a server from an image."""
        key = {"node": use.node, "tag": use.tag, "user_name": use.user}
        is_hers = [column == key[column.name] for column in image_uses.primary_key]
        then = {"last_used_at": use.last_used_at}
        with self._write() as connection:
            changed = connection.execute(sa.update(image_uses).where(*is_hers).values(then))
            if changed.rowcount == 0:
                connection.execute(sa.insert(image_uses).values(key | then))

    def image_uses(self, *, node: str = LOCAL_NODE) -> tuple[ImageUse, ...]:
        """Return who used which image when last, the latest first."""
        wanted = sa.select(image_uses).where(image_uses.c.node == node)
        with self._read() as connection:
            rows = connection.execute(wanted.order_by(image_uses.c.last_used_at.desc())).all()
        return tuple(
            ImageUse(node=row.node, tag=row.tag, user=row.user_name, last_used_at=row.last_used_at)
            for row in rows
        )

    def forget_image(self, tag: str, *, node: str = LOCAL_NODE) -> None:
        """Forget who used an image that was removed; its builds stay in the history."""
        with self._write() as connection:
            connection.execute(
                sa.delete(image_uses).where(image_uses.c.node == node, image_uses.c.tag == tag)
            )
