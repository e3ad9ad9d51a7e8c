-- A shard that was taken back to a moment.

-- Set where an incarnation begins what was restored: to that moment.
ALTER TABLE ledger.incarnation ADD COLUMN restored_to timestamptz;

-- Incarnations of the history that was left by a restore. A reader whose place is of one of them goes on where the restore began.
CREATE TABLE ledger.left_incarnation (
    id uuid PRIMARY KEY
);
GRANT SELECT ON ledger.left_incarnation TO zegel_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.left_incarnation TO zegel_admin;

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
