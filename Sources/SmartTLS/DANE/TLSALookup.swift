// The lookups that a TLSA search asks for, one after the other. What follows from each is `TLSADiscovery`'s word.
import DNS

/// Runs TLSA searches.
struct TLSALookup {
    let resolver: any DNSResolving

    /// The records that go with one address answer of a host, and for how many seconds that holds; nil: not at all.
    func run(_ search: TLSADiscovery) async -> (status: TLSAStatus, ttl: UInt32?) {
        var search = search
        var ttl = UInt32.max
        while true {
            let question: (name: DomainName, type: DNSRecordType)
            switch search.step {
            case .ended(.unknown(let failure)): return (.unknown(failure), nil)
            case .ended(let status): return (status, ttl)
            case .askAlias(let name): question = (name, .cname)
            case .askRecords(let name): question = (name, .tlsa)
            }
            do {
                let answer = try await resolver.resolve(question.name, question.type)
                ttl = min(ttl, answer.ttl)
                search.take(.success(answer))
            } catch {
                search.take(.failure(error))
            }
        }
    }
}
