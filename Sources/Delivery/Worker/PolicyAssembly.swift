// How MTA-STS is put together for a worker: one door to policies for all of its shards.

import DNS
import Ledger
import SmartTLS

extension MTASTSPolicies {
    /// The door to policies, kept in the database and counted.
    init(_ fetcher: MTASTSFetcher, resolver: any DNSResolving, cache: PolicyCache) {
        let metrics = PolicyMetrics()
        self.init(
            resolver: resolver, store: LedgerPolicyStore(cache: cache), fetcher: fetcher,
            observe: { metrics.count($0) })
    }
}
