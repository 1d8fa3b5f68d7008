-- Keeps events $1 from being pruned until the transaction ends; those that are gone do not come
-- back.
SELECT id FROM outbox_events WHERE id = ANY ($1::bigint[]) ORDER BY id FOR KEY SHARE
