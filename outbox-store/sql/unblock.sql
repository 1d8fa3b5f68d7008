-- Lets the next row of each key go, after the first of them has been removed in the same
-- transaction. $1 lanes, $2 keys.
SELECT freed_event FROM outbox_unblock($1, $2)
