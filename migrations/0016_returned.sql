-- Held deliveries that an operator returns: whoever claims such a one sends nothing, ends it, and tells its sender.
ALTER TABLE ledger.delivery ADD COLUMN returned boolean NOT NULL DEFAULT false;
