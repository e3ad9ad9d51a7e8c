// Several statements in one round trip: libpq's pipeline mode.

extension PostgresSession {
    /// Runs the statements in one round trip, each prepared once per connection and in binary.
    ///
    /// Outside a transaction block they are one transaction, committed at the end: a warning on that commit is in the notices
    /// of the last rows. COPY is not possible here (`script`).
    /// - Throws: the first failure with its `step`; the steps after it did not run.
    public func pipeline(_ steps: [PostgresStatement]) throws(PostgresError) -> [PostgresRows] {
        guard !steps.isEmpty else { return [] }
        try begin()
        let plan = try prepare(steps)
        let idle = handle.isIdle
        try handle.enterPipeline()
        var outcome = PipelineOutcome()
        do throws(PostgresError) {
            for (step, entry) in zip(steps, plan) {
                if entry.isNew { try handle.sendPrepare(entry.name, step.text, step.parameters.map(\.type)) }
                try handle.sendExecute(entry.name, step.parameters)
                try handle.flush()
            }
            try handle.syncPipeline()
            try handle.flush()
            try receive(steps, plan, into: &outcome)
            try handle.leavePipeline()
        } catch {
            // Half a pipeline cannot be taken back: the connection goes.
            var error = outcome.failure ?? error
            _ = handle.lost()
            if error.code == .server { error.code = .connectionLost }
            error.inDoubt = idle || steps.contains { CommitWords.occur(in: $0.text) }
            throw error
        }
        if let failure = outcome.failure { throw failure }
        return outcome.results
    }

    private struct PlannedStep {
        var name: String
        var isNew: Bool
    }

    private struct PipelineOutcome {
        var results: [PostgresRows] = []
        var failure: PostgresError?
    }

    /// Names for all steps. Room is made before the pipeline begins: in it the simple protocol is not allowed.
    private func prepare(_ steps: [PostgresStatement]) throws(PostgresError) -> [PlannedStep] {
        var plan: [PlannedStep] = []
        var fresh = StatementCache(limit: .max)
        var added = 0
        for step in steps {
            if let known = statements.name(step.text, step.parameters) {
                plan.append(PlannedStep(name: known, isNew: false))
            } else if let known = fresh.name(step.text, step.parameters) {
                plan.append(PlannedStep(name: known, isNew: false))
            } else {
                let name = statements.freshName()
                fresh.insert(name, step.text, step.parameters)
                plan.append(PlannedStep(name: name, isNew: true))
                added += 1
            }
        }
        if added > 0 {
            try deallocate(statements.surplus(adding: added, keeping: Set(plan.map(\.name))))
        }
        return plan
    }

    /// Takes the results up to the synchronisation point.
    private func receive(
        _ steps: [PostgresStatement], _ plan: [PlannedStep], into outcome: inout PipelineOutcome
    ) throws(PostgresError) {
        for (index, (step, entry)) in zip(steps, plan).enumerated() {
            if entry.isNew {
                let prepared = try one(index, &outcome)
                if prepared?.status == .command { statements.insert(entry.name, step.text, step.parameters) }
            }
            if let result = try one(index, &outcome), result.status == .command || result.status == .tuples {
                outcome.results.append(PostgresRows(handle: result, notices: handle.inbox.take()))
            } else if outcome.failure == nil {
                outcome.failure = PostgresError(.protocolViolation, "unexpected result", step: index)
            }
        }
        // The commit of an implicit transaction happens at the synchronisation point; a deferred constraint fails there.
        while true {
            guard let result = try handle.next() else {
                if handle.isLost { throw handle.lost() }
                continue
            }
            if result.status == .failed {
                outcome.failure = outcome.failure ?? serverError(result)
            }
            if handle.isLost { throw outcome.failure ?? handle.lost() }
            if result.status == .pipelineSync { break }
        }
        if let last = outcome.results.indices.last {
            outcome.results[last].notices += handle.inbox.take()
        }
    }

    /// The result of one message of the pipeline, and the nil that ends it.
    private func one(_ step: Int, _ outcome: inout PipelineOutcome) throws(PostgresError) -> ResultHandle? {
        let result = try handle.next()
        if let result, result.status == .failed, outcome.failure == nil {
            outcome.failure = serverError(result)
            outcome.failure?.step = step
        }
        if handle.isLost { throw outcome.failure ?? handle.lost() }
        while result != nil, try handle.next() != nil {
            if handle.isLost { throw handle.lost() }
        }
        return result
    }
}
