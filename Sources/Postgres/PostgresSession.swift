// What a job can ask of its connection: statements, one at a time. Pipelines and scripts are in their own files.

/// The connection, for the time of one job. It lives on the connection's thread and must not leave the job's closure.
public final class PostgresSession {
    /// Statements kept prepared on one connection.
    static let preparedLimit = 256

    let handle: ConnectionHandle
    var statements = StatementCache(limit: PostgresSession.preparedLimit)

    init(handle: ConnectionHandle) { self.handle = handle }

    /// The server's process for this connection (`pg_backend_pid()`).
    public var processID: Int32 { handle.processID }

    /// Runs one or several statements by the simple protocol; rows are dropped.
    /// - Returns: how the last commit among them ended.
    @discardableResult
    public func execute(_ sql: String) throws(PostgresError) -> PostgresCommitOutcome {
        let idle = handle.isIdle
        try begin()
        try handle.sendSimple(sql)
        let results = try collect(mayCommit: { idle || CommitWords.occur(in: sql) })
        return PostgresCommitOutcome(results.flatMap(\.notices))
    }

    /// Runs one statement by the extended protocol, parameters and rows in binary. Each distinct text is prepared once per
    /// connection; the cache is bounded.
    public func query(
        _ statement: String, _ parameters: [PostgresValue] = []
    ) throws(PostgresError) -> PostgresRows {
        do throws(PostgresError) {
            return try queryOnce(statement, parameters)
        } catch {
            // A migration or DISCARD ALL took the prepared statement away: prepare again, once, where nothing is lost by it.
            guard error.sqlState == "26000" || error.sqlState == "0A000", handle.isIdle,
                let name = statements.name(statement, parameters)
            else { throw error }
            statements.remove(name: name)
            if error.sqlState == "0A000" { try execute("DEALLOCATE \(name)") }
            return try queryOnce(statement, parameters)
        }
    }

    private func queryOnce(
        _ statement: String, _ parameters: [PostgresValue]
    ) throws(PostgresError) -> PostgresRows {
        try begin()
        let name: String
        if let known = statements.name(statement, parameters) {
            name = known
        } else {
            try deallocate(statements.surplus(adding: 1, keeping: []))
            name = statements.freshName()
            try handle.sendPrepare(name, statement, parameters.map(\.type))
            _ = try collect(mayCommit: { false })
            statements.insert(name, statement, parameters)
            try begin()
        }
        let idle = handle.isIdle
        try handle.sendExecute(name, parameters)
        let results = try collect(mayCommit: { idle || CommitWords.occur(in: statement) })
        guard let rows = results.last else {
            throw PostgresError(.protocolViolation, "a statement without a result")
        }
        return rows
    }

    /// Runs `body` in a transaction: committed when it returns, rolled back when it throws.
    /// - Parameters:
    ///   - begin: the statement that opens it, such as `BEGIN ISOLATION LEVEL REPEATABLE READ`.
    ///   - body: statements of the transaction.
    /// - Returns: what `body` returned, and how the commit ended.
    /// - Throws: what `body` threw, or the failure of COMMIT, `inDoubt` when its answer never came.
    public func transaction<T>(
        begin: String = "BEGIN", _ body: (PostgresSession) throws -> T
    ) throws -> (T, PostgresCommitOutcome) {
        try execute(begin)
        let value: T
        do {
            value = try body(self)
        } catch {
            rollBack()
            throw error
        }
        do {
            try self.begin()
        } catch {
            rollBack()
            throw error
        }
        try handle.sendSimple("COMMIT")
        let results = try collect(mayCommit: { true })
        guard results.last?.commandTag == "COMMIT" else {
            throw PostgresError(
                .server, "COMMIT rolled back: a statement before it had failed", sqlState: "25P02")
        }
        return (value, PostgresCommitOutcome(results.flatMap(\.notices)))
    }

    // MARK: How

    /// Called before each command: what came before it does not belong to it.
    func begin() throws(PostgresError) {
        if handle.isLost { throw handle.lost() }
        if let refusal = handle.watch.refusal() { throw refusal }
        _ = handle.inbox.take()
    }

    /// Leaves the transaction, whatever became of the job. A connection that cannot is given up by its owner.
    func rollBack() {
        guard !handle.isLost, !handle.isIdle else { return }
        let watch = handle.watch
        handle.watch = .short()
        defer { handle.watch = watch }
        _ = handle.inbox.take()
        do {
            try handle.sendSimple("ROLLBACK")
            _ = try collect(mayCommit: { false })
        } catch {
            // Still in a transaction, or lost: the connection's thread sees either after the job.
        }
    }

    func deallocate(_ names: [String]) throws(PostgresError) {
        guard !names.isEmpty else { return }
        try handle.sendSimple(names.map { "DEALLOCATE \($0)" }.joined(separator: "; "))
        _ = try collect(mayCommit: { false })
        for name in names { statements.remove(name: name) }
        try begin()
    }

    /// Sends what is buffered and takes all results of the command.
    func collect(mayCommit: () -> Bool) throws(PostgresError) -> [PostgresRows] {
        var results: [PostgresRows] = []
        var failure: PostgresError?
        do throws(PostgresError) {
            try handle.flush()
            while let result = try handle.next() {
                switch result.status {
                case .command, .tuples:
                    results.append(PostgresRows(handle: result, notices: handle.inbox.take()))
                case .copyIn:
                    try handle.endCopy(failing: "COPY needs a script")
                    try handle.flush()
                case .failed:
                    failure = failure ?? serverError(result)
                default:
                    failure = failure ?? PostgresError(.protocolViolation, "unexpected result")
                    // A COPY TO would wait for a reader for ever.
                    if result.status == .unexpected { throw handle.lost() }
                }
                if handle.isLost { break }
            }
        } catch {
            failure = failure ?? error
        }
        // A commit outside a transaction block may warn after its last result.
        if let last = results.indices.last { results[last].notices += handle.inbox.take() }
        if handle.isLost {
            var error = failure ?? handle.lost()
            if error.code == .server { error.code = .connectionLost }
            error.inDoubt = mayCommit()
            throw error
        }
        if let failure { throw failure }
        return results
    }

    /// A cancel that we sent ourselves is named by its cause.
    func serverError(_ result: ResultHandle) -> PostgresError {
        var error = result.error()
        if handle.isLost {
            error.code = .connectionLost
        } else if error.sqlState == "57014", let cause = handle.watch.cause {
            error.code = cause
        }
        return error
    }
}

/// Whether a text may end a transaction by committing it. Asked only when the answer was lost; says yes when unsure.
enum CommitWords {
    static func occur(in sql: String) -> Bool {
        let words = sql.uppercased().split { !$0.isLetter && $0 != "_" }
        return words.contains { $0 == "COMMIT" || $0 == "END" || $0 == "PREPARE" }
    }
}
