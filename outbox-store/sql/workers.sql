SELECT id, name, started_at, alive_until > now() AS "alive!"
FROM outbox_workers ORDER BY id
