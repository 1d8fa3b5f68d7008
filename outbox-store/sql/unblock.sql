-- Lets the next row of each key go, after rows of it have been removed in the same transaction.
-- $1 lanes, $2 keys, $3 the first event of each that was removed.
SELECT freed_event FROM outbox_unblock($1, $2, $3)
