// Several statements and COPYs in one round trip, outside pipeline mode: the fastest way to commit a batch.

/// A step of a script.
public enum PostgresScriptStep: Sendable {
    /// One statement (more are allowed, but then steps and results no longer correspond one to one). No parameters.
    case sql(String)
    /// `COPY table (columns) FROM STDIN (FORMAT binary)`. A table may be `schema.table`.
    case copy(table: String, columns: [String], PostgresCopyRows)

    var text: String {
        switch self {
        case .sql(let sql): return sql
        case .copy(let table, let columns, _):
            let name = table.split(separator: ".").map { quotedIdentifier(String($0)) }.joined(separator: ".")
            return
                "COPY \(name) (\(columns.map(quotedIdentifier).joined(separator: ", "))) FROM STDIN (FORMAT binary)"
        }
    }
}

func quotedIdentifier(_ name: String) -> String {
    "\"" + name.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"") + "\""
}

/// What a script that did not fail brought.
public struct PostgresScriptResult: Sendable {
    /// One result for each statement, in order. Rows are in text format: `text`, integers, `bool`, `uuid`, `bytes` and `xid8`
    /// can be read, timestamps and arrays cannot.
    public var results: [PostgresRows]
    /// How the commit ended: that of the statement COMMIT, or, if there is none, of the implicit transaction.
    public var commitOutcome: PostgresCommitOutcome
}

extension PostgresSession {
    /// Sends all steps at once and feeds each COPY when the server asks for it: one round trip.
    ///
    /// libpq hands a notice over as soon as it reads it, which may be with the result *before* the one that it belongs to. So
    /// a WARNING that comes with COMMIT's own result or with the one before it counts as COMMIT's: at worst a durable commit is
    /// called warned, never the reverse. Put a statement that never warns (a SELECT) right before COMMIT to make it exact.
    ///
    /// After a failure nothing of the script holds: a transaction that it opened is rolled back here.
    /// - Throws: the failure with the index of its `step`; `inDoubt` if the connection broke when a commit could already run.
    public func script(_ steps: [PostgresScriptStep]) throws(PostgresError) -> PostgresScriptResult {
        guard !steps.isEmpty else { return PostgresScriptResult(results: [], commitOutcome: .durable) }
        let idle = handle.isIdle
        try begin()
        try handle.sendSimple(steps.map(\.text).joined(separator: ";\n"))
        var progress = ScriptProgress(steps)
        do throws(PostgresError) {
            try handle.flush()
            while let result = try handle.next() {
                try take(result, &progress)
                if handle.isLost { break }
            }
        } catch {
            progress.failure = progress.failure ?? error
        }
        progress.windows.append(handle.inbox.take())
        if handle.isLost {
            var error = progress.failure ?? handle.lost()
            if error.code == .server { error.code = .connectionLost }
            error.inDoubt = progress.mayHaveCommitted(startedIdle: idle)
            throw error
        }
        if let failure = progress.failure {
            if idle { rollBack() }
            throw failure
        }
        return PostgresScriptResult(results: progress.results, commitOutcome: progress.commitOutcome)
    }

    private func take(_ result: ResultHandle, _ progress: inout ScriptProgress) throws(PostgresError) {
        switch result.status {
        case .command, .tuples:
            let notices = progress.carried + handle.inbox.take()
            progress.carried = []
            progress.windows.append(notices)
            progress.results.append(PostgresRows(handle: result, notices: notices))
        case .copyIn:
            progress.carried += handle.inbox.take()
            guard let rows = progress.nextCopy() else {
                try handle.endCopy(failing: "no rows for this COPY")
                try handle.flush()
                return
            }
            try handle.putCopy(rows.bytes)
            try handle.putCopy(PostgresCopyRows.trailer)
            progress.copiesEnded += 1
            try handle.endCopy()
            try handle.flush()
        case .failed:
            guard progress.failure == nil else { return }
            progress.failure = serverError(result)
            progress.failure?.step = progress.results.count
        default:
            throw handle.lost()
        }
    }
}

/// How far a script got.
private struct ScriptProgress {
    private let steps: [PostgresScriptStep]
    private var copyCursor = 0
    var copiesEnded = 0
    var results: [PostgresRows] = []
    /// Notices that came with each result, and after the last.
    var windows: [[PostgresNotice]] = []
    /// Notices that came with the start of a COPY.
    var carried: [PostgresNotice] = []
    var failure: PostgresError?

    init(_ steps: [PostgresScriptStep]) { self.steps = steps }

    mutating func nextCopy() -> PostgresCopyRows? {
        while copyCursor < steps.count {
            defer { copyCursor += 1 }
            if case .copy(_, _, let rows) = steps[copyCursor] { return rows }
        }
        return nil
    }

    var commitOutcome: PostgresCommitOutcome {
        if let broken = windows.joined().first(where: \.breaksQuorumWait) {
            return PostgresCommitOutcome([broken])
        }
        // No COMMIT among the statements: the implicit one comes after the last result.
        let commit = results.lastIndex { $0.commandTag == "COMMIT" } ?? results.count
        return PostgresCommitOutcome(
            windows.indices.filter { $0 == commit || $0 == commit - 1 }.flatMap { windows[$0] })
    }

    /// The server runs no statement behind a COPY before it has that COPY's end from us.
    func mayHaveCommitted(startedIdle: Bool) -> Bool {
        var copiesBefore = 0
        for step in steps {
            switch step {
            case .copy: copiesBefore += 1
            case .sql(let sql): if CommitWords.occur(in: sql) { return copiesEnded >= copiesBefore }
            }
        }
        return startedIdle && copiesEnded >= copiesBefore
    }
}
