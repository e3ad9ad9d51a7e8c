// Remembers the answers that a route was made of, for the evidence of what is delivered on it: those about the domain, and for each
// host its own.
import DNS
import Synchronization

/// A resolver that keeps each answer that it passes on.
final class AnswerRecorder: DNSResolving {
    private let resolver: any DNSResolving
    private let kept = Mutex<[DNSAnswer]>([])

    init(_ resolver: any DNSResolving) { self.resolver = resolver }

    /// Another that asks the same resolver and has kept nothing.
    func apart() -> AnswerRecorder { AnswerRecorder(resolver) }

    /// The answers so far, at most `RouteLimits.lookups`, in an order that is always the same.
    var answers: [DNSAnswer] { kept.withLock { $0 }.inOrder }

    func resolve(_ name: DomainName, _ type: DNSRecordType) async throws(DNSFailure) -> DNSAnswer {
        let answer = try await resolver.resolve(name, type)
        kept.withLock { kept in
            guard kept.count < RouteLimits.lookups,
                !kept.contains(where: { $0.name == name && $0.type == type })
            else { return }
            kept.append(answer)
        }
        return answer
    }
}

extension [DNSAnswer] {
    /// By name and type.
    fileprivate var inOrder: [DNSAnswer] {
        sorted { ($0.name, $0.type.rawValue) < ($1.name, $1.type.rawValue) }
    }

    /// These and those of a host.
    func and(_ others: [DNSAnswer]) -> [DNSAnswer] { (self + others).inOrder }
}
