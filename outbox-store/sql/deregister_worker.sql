DELETE FROM outbox_workers WHERE id = $1
