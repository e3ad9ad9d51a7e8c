// What each role reads, as typed values. A role takes its own struct and never a key by name.
import Foundation

/// What every node reads.
public struct NodeSettings: Sendable {
    /// Name of the process, unique in a cluster.
    public var name: String
    /// The region it is in.
    public var region: String
    /// Folder for what the node keeps.
    public var dataDirectory: String
    /// How long SIGTERM lets work in hand finish.
    public var shutdownGrace: Duration
    /// Where metrics and readiness are served.
    public var metricsListen: HostPort
    /// Least severe log lines that are written.
    public var logLevel: LogLevel

    /// Reads the keys `node.…`, `metrics.…` and `log.…`.
    public init(_ s: Settings) {
        name = s[Keys.nodeName]
        region = s[Keys.nodeRegion]
        dataDirectory = s[Keys.nodeDataDirectory]
        shutdownGrace = s[Keys.nodeShutdownGrace]
        metricsListen = s[Keys.metricsListen]
        logLevel = s[Keys.logLevel]
    }
}

/// How to reach the databases.
public struct DatabaseSettings: Sendable {
    /// libpq connection text of the control shard. Secret.
    public var controlDSN: String
    /// How old the tenants and credentials may be that are worked with.
    public var controlMaximumAge: Duration
    /// The ledger's shards; at least one. Secret.
    public var shards: [ShardDSN]
    /// The Patronis of shards that are replicated over regions, by the shard's name.
    public var patroni: [String: [String]]
    /// PEM file: who may vouch for them; set where there are any.
    public var patroniAuthority: String?

    /// Reads `control.dsn` and the keys `shard.…`.
    ///
    /// - Throws: `SettingsError` when `control.dsn` is not set, two shards have one name, or `shard.patroni` names another.
    public init(_ s: Settings, for role: String) throws(SettingsError) {
        controlDSN = try s.required(Keys.controlDSN, for: role)
        controlMaximumAge = s[Keys.controlMaximumAge]
        shards = s[Keys.shardDSNs]
        if shards.isEmpty, let only = ShardDSN("a=\(controlDSN)") { shards = [only] }
        guard Set(shards.map(\.name)).count == shards.count else {
            throw SettingsError(
                place: "\(s.origin(of: Keys.shardDSNs))", key: Keys.shardDSNs.name,
                problem: "names a shard twice", fix: "give each shard its own name")
        }
        let patroni = s[Keys.shardPatroni]
        self.patroni = Dictionary(patroni.map { ($0.name, $0.urls) }) { $0 + $1 }
        if let stranger = patroni.first(where: { one in !shards.contains { $0.name == one.name } }) {
            throw SettingsError(
                place: "\(s.origin(of: Keys.shardPatroni))", key: Keys.shardPatroni.name,
                problem: "shard \(stranger.name) is not in shard.dsns", fix: "name the shards that are there")
        }
        if patroni.isEmpty {
            patroniAuthority = s[Keys.shardPatroniAuthority]
        } else {
            patroniAuthority = try s.required(Keys.shardPatroniAuthority, for: role)
        }
        guard !shards.isEmpty else {
            throw SettingsError(
                place: "\(s.origin(of: Keys.controlDSN))", key: Keys.controlDSN.name,
                problem: "its value (secret) is no connection text",
                fix: "write one such as host=/run/postgresql dbname=zegel")
        }
    }
}

extension DatabaseSettings {
    /// The PEM of who may vouch for the Patronis.
    /// - Throws: `SettingsError` when the file cannot be read.
    public func readPatroniAuthority() throws(SettingsError) -> [UInt8] {
        let path = patroniAuthority ?? ""
        guard let data = FileManager.default.contents(atPath: path) else {
            throw SettingsError(
                place: path, key: Keys.shardPatroniAuthority.name, problem: "cannot be read",
                fix: "name a PEM file that this node may read")
        }
        return Array(data)
    }
}

/// What `zegel shard` and `zegel region` read of a ledger on machines of its own.
public struct ReplicationSettings: Sendable {
    /// One shard.
    public struct Shard: Sendable, Equatable {
        /// Its name.
        public var name: String
        /// The region that leads it in good times.
        public var home: String
        /// The Patronis of its members.
        public var patronis: [String]
    }

    /// The shards, the control shard first.
    public var shards: [Shard]
    /// The regions that hold a member of each.
    public var regions: [String]
    /// Each region's etcd, as far as it is told.
    public var voters: [EtcdVoter]
    /// The region that the reader is in.
    public var region: String
    /// PEM file: who may vouch for the Patronis.
    public var authority: String
    /// Who asks.
    public var identity: IdentityFiles

    /// Reads `node.region` and the keys `shard.…`.
    ///
    /// - Throws: `SettingsError` when one of them is not set, or a shard has no home among the regions.
    public init(_ s: Settings, for role: String) throws(SettingsError) {
        func refusal(_ key: String, _ place: String, _ problem: String, _ fix: String) -> SettingsError {
            SettingsError(place: place, key: key, problem: problem, fix: fix)
        }
        let homes = Dictionary(s[Keys.shardHomes].map { ($0.shard, $0.region) }) { first, _ in first }
        let regions = s[Keys.shardRegions]
        guard !s[Keys.shardPatroni].isEmpty else {
            throw refusal(
                Keys.shardPatroni.name, "\(s.origin(of: Keys.shardPatroni))",
                "is not set, and \(role) needs it",
                "give the settings that zegel region init wrote: operator/cluster.yaml")
        }
        var shards: [Shard] = []
        for patroni in s[Keys.shardPatroni] {
            guard let home = homes[patroni.name], regions.contains(home) else {
                throw refusal(
                    Keys.shardHomes.name, "\(s.origin(of: Keys.shardHomes))",
                    "gives shard \(patroni.name) no home among shard.regions",
                    "write \(patroni.name)=REGION")
            }
            shards.append(Shard(name: patroni.name, home: home, patronis: patroni.urls))
        }
        self.shards = shards
        self.regions = regions
        voters = s[Keys.shardVoters]
        region = s[Keys.nodeRegion]
        authority = try s.required(Keys.shardPatroniAuthority, for: role)
        identity = IdentityFiles(
            certificate: try s.required(Keys.shardPatroniCertificate, for: role),
            key: try s.required(Keys.shardPatroniKey, for: role))
    }

    /// The folder of the database roles' passwords.
    ///
    /// - Throws: `SettingsError` when it is not set.
    public static func passwordFolder(_ s: Settings, for role: String) throws(SettingsError) -> String {
        try s.required(Keys.shardPasswords, for: role)
    }
}

/// A certificate chain and its private key, as files.
public struct IdentityFiles: Sendable, Hashable {
    /// PEM: the chain, leaf first.
    public var certificate: String
    /// PEM: the private key.
    public var key: String
}

/// What the edge reads.
public struct EdgeSettings: Sendable {
    /// SMTP with STARTTLS.
    public var listen: [HostPort]
    /// SMTP over implicit TLS.
    public var listenTLS: [HostPort]
    /// Name in the greeting and in Received lines.
    public var hostName: String
    /// Certificate and key; nil only when TLS is not required.
    public var identity: IdentityFiles?
    /// Refuse MAIL without TLS.
    public var requireTLS: Bool
    /// Networks whose clients are a tenant without AUTH.
    public var tenantNetworks: [TenantNetwork]
    /// Connections at once.
    public var maximumConnections: Int
    /// Largest message.
    public var maximumMessageSize: ByteCount
    /// Recipients of one message.
    public var maximumRecipients: Int
    /// How long a client waits while the outcome of its commit is unknown.
    public var settle: Duration
    /// Most content of one group commit.
    public var batchBytes: ByteCount
    /// Most messages of one group commit.
    public var batchCount: Int

    /// Reads the keys `edge.…`.
    ///
    /// - Throws: `SettingsError` when TLS is required and certificate or key is not set, or only one of them is.
    public init(_ s: Settings) throws(SettingsError) {
        listen = s[Keys.edgeListen]
        listenTLS = s[Keys.edgeListenTLS]
        hostName = s[Keys.edgeHostName]
        requireTLS = s[Keys.edgeRequireTLS]
        if requireTLS || !listenTLS.isEmpty || s[Keys.edgeCertificate] != nil || s[Keys.edgeKey] != nil {
            identity = IdentityFiles(
                certificate: try s.required(Keys.edgeCertificate, for: "zegel-edge"),
                key: try s.required(Keys.edgeKey, for: "zegel-edge"))
        }
        tenantNetworks = s[Keys.edgeTenantNetworks]
        maximumConnections = s[Keys.edgeMaxConnections]
        maximumMessageSize = s[Keys.edgeMaxMessageSize]
        maximumRecipients = s[Keys.edgeMaxRecipients]
        settle = s[Keys.edgeSettle]
        batchBytes = s[Keys.edgeBatchBytes]
        batchCount = s[Keys.edgeBatchCount]
        guard !listen.isEmpty || !listenTLS.isEmpty else {
            throw SettingsError(
                place: "\(s.origin(of: Keys.edgeListen))", key: Keys.edgeListen.name,
                problem: "is empty, and so is edge.listen_tls", fix: "give one of them a host:port")
        }
    }
}

/// What a worker reads of its own work.
public struct WorkerSettings: Sendable {
    /// Deliveries at once.
    public var concurrency: Int
    /// Connections at once to one recipient host.
    public var perDestination: Int
    /// How long claims outlive the last heartbeat.
    public var lease: Duration
    /// Most deliveries claimed and not yet begun.
    public var prefetch: Int

    /// Reads the keys `worker.…`.
    public init(_ s: Settings) {
        concurrency = s[Keys.workerConcurrency]
        perDestination = s[Keys.workerPerDestination]
        lease = s[Keys.workerLease]
        prefetch = s[Keys.workerPrefetch]
    }
}

/// How mail leaves.
public struct DeliverySettings: Sendable {
    /// Waits between attempts; the last repeats. Never empty.
    public var retry: [Duration]
    /// When a deferred delivery ends.
    public var expire: Duration
    /// Age at which a sender is told of a delay, once.
    public var delayReport: Duration
    /// Port of recipient hosts.
    public var port: Int
    /// PEM file of trusted roots; nil for the system's.
    public var trustRoots: String?
    /// Static routes.
    public var routes: [StaticRoute]
    /// Local address that deliveries leave from.
    public var sourceAddress: String?
    /// How long the answer to the final dot may take.
    public var finalDotTimeout: Duration
    /// What becomes of deliveries in doubt.
    public var inDoubt: InDoubtPolicy
    /// Name said in EHLO.
    public var hostName: String

    /// Reads the keys `delivery.…`.
    public init(_ s: Settings) {
        retry = s[Keys.deliveryRetry]
        expire = s[Keys.deliveryExpire]
        delayReport = s[Keys.deliveryDelayReport]
        port = s[Keys.deliveryPort]
        trustRoots = s[Keys.deliveryTrustRoots]
        routes = s[Keys.deliveryRoutes]
        sourceAddress = s[Keys.deliverySourceAddress]
        finalDotTimeout = s[Keys.deliveryFinalDotTimeout]
        inDoubt = s[Keys.deliveryInDoubt]
        hostName = s[Keys.deliveryHostName]
    }
}

/// Where rulesets come from, beside the built-in ones.
public struct RulesetSettings: Sendable {
    /// A YAML file; nil: none.
    public var file: String?

    /// Reads the keys `rulesets.…`.
    public init(_ s: Settings) { file = s[Keys.rulesetsFile] }
}

/// How recipient hosts are scanned, beside deliveries.
public struct ScanSettings: Sendable {
    /// Which of them.
    public var hosts: ScanHosts
    /// How long a scan holds: as the DNS answers say, and within these.
    public var life: ClosedRange<Duration>
    /// Local address that scans leave from; nil: that of deliveries.
    public var sourceAddress: String?

    /// Reads the keys `scan.…`.
    ///
    /// - Throws: `SettingsError` where the least is more than the most.
    public init(_ s: Settings) throws(SettingsError) {
        let (least, most) = (s[Keys.scanFreshMinimum], s[Keys.scanFreshMaximum])
        guard least <= most else {
            throw SettingsError(
                place: "\(s.origin(of: Keys.scanFreshMaximum))", key: Keys.scanFreshMaximum.name,
                problem: "is less than scan.fresh_min", fix: "make it at least as long")
        }
        (hosts, life, sourceAddress) = (s[Keys.scanHosts], least...most, s[Keys.scanSourceAddress])
    }
}

/// How names are looked up.
public struct DNSSettings: Sendable {
    /// Resolvers to forward to; empty: ask the authoritative servers.
    public var forwarders: [DNSForwarder]
    /// Where the chain of trust begins.
    public var trustAnchor: TrustAnchor

    /// Reads the keys `dns.…`.
    public init(_ s: Settings) {
        forwarders = s[Keys.dnsForwarders]
        trustAnchor = s[Keys.dnsTrustAnchor]
    }
}

/// What the API reads.
public struct APISettings: Sendable {
    /// Where HTTPS is served.
    public var listen: [HostPort]
    /// Certificate and key.
    public var identity: IdentityFiles
    /// HTTPS connections at once.
    public var maximumConnections: Int
    /// Requests a second of one API key.
    public var ratePerSecond: Int
    /// Longest query.
    public var statementTimeout: Duration
    /// Whether it makes reports on recipient domains, for which it connects to their hosts.
    public var judges: Bool

    /// Reads the keys `api.…`.
    ///
    /// - Throws: `SettingsError` when certificate or key is not set: the API has no cleartext.
    public init(_ s: Settings) throws(SettingsError) {
        listen = s[Keys.apiListen]
        identity = IdentityFiles(
            certificate: try s.required(Keys.apiCertificate, for: "zegel-api"),
            key: try s.required(Keys.apiKey, for: "zegel-api"))
        maximumConnections = s[Keys.apiMaxConnections]
        ratePerSecond = s[Keys.apiRatePerSecond]
        statementTimeout = s[Keys.apiStatementTimeout]
        judges = s[Keys.apiJudge]
    }
}

/// Which keys a node trusts and where it opens with them.
public struct KeySettings: Sendable {
    /// Unix socket of the key service for this role; edges have none.
    public var keyringSocket: String?
    /// The cluster's root: an Ed25519 public key of 32 bytes.
    public var rootPublicKey: [UInt8]?
    /// Longest life of a batch key.
    public var batchLife: Duration
    /// Most messages sealed from one batch key.
    public var batchMessages: Int

    /// Reads the keys `keyring.…` and `keys.…`.
    public init(_ s: Settings) {
        keyringSocket = s[Keys.keyringSocket]
        rootPublicKey = s[Keys.keysRootPublic]
        batchLife = .seconds(s[Keys.keysBatchSeconds])
        batchMessages = s[Keys.keysBatchMessages]
    }

    /// The root's public key, 32 bytes.
    ///
    /// - Throws: `SettingsError` when `keys.root_public` is not set.
    public func requiredRootPublicKey(_ s: Settings, for role: String) throws(SettingsError) -> [UInt8] {
        try s.required(Keys.keysRootPublic, for: role)
    }

    /// The key service's socket.
    ///
    /// - Throws: `SettingsError` when `keyring.socket` is not set.
    public func requiredKeyringSocket(_ s: Settings, for role: String) throws(SettingsError) -> String {
        try s.required(Keys.keyringSocket, for: role)
    }
}

/// How MTA-STS policies are fetched.
public struct PolicySettings: Sendable {
    /// PEM file of trusted roots; nil for the system's.
    public var trustRoots: String?
    /// Networks outside of the public Internet in which policy hosts may be.
    public var allowedNetworks: [NetworkBlock]
    /// Port of policy hosts.
    public var port: Int

    /// Reads the keys `policy.…`.
    public init(_ s: Settings) {
        trustRoots = s[Keys.policyTrustRoots]
        allowedNetworks = s[Keys.policyAllowedNetworks]
        port = s[Keys.policyPort]
    }
}

/// How an operator's commands reach the API.
public struct ClientSettings: Sendable {
    /// `https://host:port`
    public var url: String
    /// File that holds the API key.
    public var keyFile: String
    /// PEM file: who may vouch for the API's certificate.
    public var authority: String

    /// Reads the keys `client.…`.
    ///
    /// - Throws: `SettingsError` when one is not set.
    public init(_ s: Settings) throws(SettingsError) {
        url = try s.required(Keys.clientURL, for: "this command")
        keyFile = try s.required(Keys.clientKeyFile, for: "this command")
        authority = try s.required(Keys.clientAuthority, for: "this command")
    }
}
