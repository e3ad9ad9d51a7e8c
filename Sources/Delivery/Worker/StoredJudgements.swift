// Which judgements the ledger has, so that each goes there once and not with every message that rests on it.

import Ledger
import Synchronization

/// Digests of judgements that a commit has stored.
final class StoredJudgements: Sendable {
    private struct State {
        var known: Set<[UInt8]> = []
        var order: [[UInt8]] = []
    }

    /// Digests that are remembered; a session is used for minutes at most.
    static let most = 4_096
    private let state = Mutex(State())

    /// The completions without the judgements that are stored already.
    func reduced(_ completions: [Completion]) -> [Completion] {
        state.withLock { state in
            completions.map { completion in
                guard completion.judgements.contains(where: { state.known.contains($0.digest) }) else {
                    return completion
                }
                return completion.with(
                    judgements: completion.judgements.filter { !state.known.contains($0.digest) })
            }
        }
    }

    /// They are stored now.
    func took(_ completions: [Completion]) {
        state.withLock { state in
            for judgement in completions.flatMap(\.judgements)
            where state.known.insert(judgement.digest).inserted {
                state.order.append(judgement.digest)
            }
            let surplus = state.order.count - Self.most
            guard surplus > 0 else { return }
            for digest in state.order.prefix(surplus) { state.known.remove(digest) }
            state.order.removeFirst(surplus)
        }
    }
}
