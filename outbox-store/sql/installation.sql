SELECT id FROM outbox_installation
