-- A shard that was taken back to a moment.

-- Set where an incarnation begins what was restored: to that moment. A reader whose place is of an incarnation that this shard never had
-- was on the history that came after it, and goes on here.
ALTER TABLE ledger.incarnation ADD COLUMN restored_to timestamptz;

-- What is known of each delivery that was open at that moment, or accepted after it; and how it stood. Filled when what happened since
-- is told, better each time that somebody knows more.
CREATE TABLE ledger.reconciled (
    message_id uuid NOT NULL,
    no int NOT NULL,
    knowledge text NOT NULL CHECK (knowledge IN ('ended', 'open', 'doubt', 'unknown')),
    state text NOT NULL,                     -- before anything was told
    possible_duplicate boolean NOT NULL,
    PRIMARY KEY (message_id, no)
);
GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.reconciled TO zegel_admin;
