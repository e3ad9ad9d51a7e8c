// What etcd is told: one voter a region, TLS with certificates on both sides everywhere.

/// A certificate, its key and the authority of its peers.
public struct MemberIdentity: Sendable, Equatable {
    /// PEM: the certificate, for serving and for connecting.
    public var certificate: String
    /// PEM: its private key.
    public var key: String
    /// PEM: who signed the others'.
    public var authority: String

    /// An identity in these files.
    public init(certificate: String, key: String, authority: String) {
        (self.certificate, self.key, self.authority) = (certificate, key, authority)
    }
}

/// The configuration file of one voter.
public struct EtcdConfiguration: Sendable {
    /// The name that a region's certificate carries where etcd has one of its own: no role of a database is mapped to it.
    public static func commonName(of region: String) -> String { "etcd-\(region)" }

    /// All voters.
    public let topology: ReplicationTopology
    /// The one that this is for.
    public let voter: ReplicationTopology.Voter
    /// Where it keeps its data.
    public let data: String
    /// Who it is.
    public let identity: MemberIdentity

    /// `etcd --config-file`.
    public var text: String {
        func url(_ voter: ReplicationTopology.Voter, _ port: Int) -> String {
            "https://\(voter.address):\(port)"
        }
        let all = topology.voters.map { "\($0.region)=\(url($0, $0.peer))" }.joined(separator: ",")
        func transport(_ whose: String) -> String {
            """
            \(whose)-transport-security:
              cert-file: \(yamlScalar(identity.certificate))
              key-file: \(yamlScalar(identity.key))
              trusted-ca-file: \(yamlScalar(identity.authority))
              client-cert-auth: true
            """
        }
        return """
            # The voter of region \(voter.region). Who leads a shard is written here by Patroni, under a lease of \(topology.pace.ttl) s.
            name: \(yamlScalar(voter.region))
            data-dir: \(yamlScalar(data))
            listen-client-urls: \(yamlScalar(url(voter, voter.client)))
            advertise-client-urls: \(yamlScalar(url(voter, voter.client)))
            listen-peer-urls: \(yamlScalar(url(voter, voter.peer)))
            initial-advertise-peer-urls: \(yamlScalar(url(voter, voter.peer)))
            initial-cluster: \(yamlScalar(all))
            initial-cluster-state: new
            initial-cluster-token: zegel
            heartbeat-interval: 100
            election-timeout: 1000
            # A voter that was cut off must not move the leadership when it comes back.
            pre-vote: true
            enable-v2: false
            # Patroni speaks to it; read from a file, etcd 3.4 leaves it off.
            enable-grpc-gateway: true
            auto-compaction-mode: periodic
            auto-compaction-retention: 1h
            log-level: warn
            \(transport("client"))
            \(transport("peer"))

            """
    }
}
