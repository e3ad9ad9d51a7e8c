// Every configuration key, in the order of the reference. A key exists when it is in this table, and nowhere else.

/// The keys, grouped as the reference shows them. Add a key here and to the settings of the role that reads it.
public enum Keys {
    // MARK: node
    static let nodeName = SettingKey(
        "node.name", .hostName, "node-1",
        "Name of this process in logs, leases and metrics; unique in a cluster.")
    static let nodeRegion = SettingKey(
        "node.region", .hostName, "local", "Region this node is in; chooses its keys and database members.")
    static let nodeDataDirectory = SettingKey(
        "node.data_dir", .path, "/var/lib/zegel",
        "Folder for what the node keeps: never messages, never plaintext.")
    static let nodeShutdownGrace = SettingKey(
        "node.shutdown_grace", .duration(.seconds(1) ... .seconds(900)), "30s",
        "How long SIGTERM lets work in hand finish before it is cut off.")

    // MARK: databases
    static let controlDSN = SettingKey(
        "control.dsn", optional: .text, secret: true,
        "libpq connection text of the control shard (tenants, credentials, key sets).")
    static let controlMaximumAge = SettingKey(
        "control.maximum_age", .duration(.seconds(30) ... .seconds(30 * 86_400)), "24h",
        "How old what is known of tenants and credentials may be, by the control leader's heartbeat: past it an edge answers 451 and no node is ready."
    )
    static let shardDSNs = SettingKey(
        "shard.dsns",
        .list(
            of: .readable(
                "name=conninfo", example: "a=host=/run/postgresql dbname=zegel"
            ) { ShardDSN($0) },
            separator: ";"), "", secret: true,
        "The ledger's shards, separated by semicolons; empty means one shard `a` at `control.dsn`.")

    static let shardPatroni = SettingKey(
        "shard.patroni",
        .list(
            of: .readable("name=URL URL …", example: "a=https://192.0.2.1:8008 https://192.0.2.2:8008") {
                ShardPatroni($0)
            }, separator: ";"), "",
        "The Patronis of each shard's members, separated by semicolons: they say who leads. Where they are given, a commit counts only with its quorum."
    )
    static let shardPatroniAuthority = SettingKey(
        "shard.patroni_authority", optional: .path, "PEM file: who may vouch for the Patronis' certificates.")
    static let shardPatroniCertificate = SettingKey(
        "shard.patroni_certificate", optional: .path,
        "PEM file: whoever asks Patroni for a change shows this certificate (`zegel shard`, `zegel region`).")
    static let shardPatroniKey = SettingKey(
        "shard.patroni_key", optional: .path, "PEM file: private key of that certificate.")
    static let shardRegions = SettingKey(
        "shard.regions", .list(of: .hostName), "",
        "The regions that hold a member of every shard, for `zegel shard` and `zegel region`.")
    static let shardHomes = SettingKey(
        "shard.homes",
        .list(of: .readable("shard=region", example: "a=r1") { ShardHome($0) }), "",
        "The region that leads each shard in good times, for `zegel shard` and `zegel region`.")
    static let shardVoters = SettingKey(
        "shard.etcd",
        .list(
            of: .readable("region=https://address:port", example: "r1=https://192.0.2.1:2379") {
                EtcdVoter($0)
            }),
        "", "Each region's etcd, for `zegel shard` and `zegel region`: they tell which are silent.")
    static let shardPasswords = SettingKey(
        "shard.password_dir", optional: .path,
        "Folder with a file `ROLE.password` of each database role, for `zegel shard init`.")

    // MARK: edge
    static let edgeListen = SettingKey(
        "edge.listen", .list(of: .hostPort), "127.0.0.1:2525", "Where SMTP with STARTTLS is served.")
    static let edgeListenTLS = SettingKey(
        "edge.listen_tls", .list(of: .hostPort), "", "Where SMTP over implicit TLS is served (RFC 8314).")
    static let edgeHostName = SettingKey(
        "edge.hostname", .hostName, "localhost", "Name in the greeting and in Received lines.")
    static let edgeCertificate = SettingKey(
        "edge.certificate", optional: .path, "PEM file: certificate chain of the edge, leaf first.")
    static let edgeKey = SettingKey("edge.key", optional: .path, "PEM file: private key of the certificate.")
    static let edgeRequireTLS = SettingKey(
        "edge.require_tls", .bool, "true", "Refuse MAIL without TLS; off only for measuring on loopback.")
    static let edgeTenantNetworks = SettingKey(
        "edge.tenant_networks",
        .list(of: .readable("cidr=tenant", example: "10.1.0.0/16=demo") { TenantNetwork($0) }), "",
        "Networks whose clients are a tenant without AUTH.")
    static let edgeMaxConnections = SettingKey(
        "edge.max_connections", .int(1...100_000), "2000", "Connections at once; more are answered 421.")
    static let edgeMaxMessageSize = SettingKey(
        "edge.max_message_size", .size(ByteCount(65_536)...ByteCount(1 << 30)), "64MB",
        "Largest message, offered as SIZE (RFC 1870).")
    static let edgeMaxRecipients = SettingKey(
        "edge.max_recipients", .int(100...10_000), "1000",
        "Recipients of one message (RFC 5321 §4.5.3.1.8 asks for at least 100).")
    static let edgeSettle = SettingKey(
        "edge.settle", .duration(.seconds(1) ... .seconds(600)), "60s",
        "How long a client waits while the outcome of its commit is unknown, before 451.")
    static let edgeBatchBytes = SettingKey(
        "edge.batch_bytes", .size(ByteCount(65_536)...ByteCount(1 << 28)), "8MiB",
        "Most content of one group commit.")
    static let edgeBatchCount = SettingKey(
        "edge.batch_count", .int(1...10_000), "256", "Most messages of one group commit.")

    // MARK: worker
    static let workerConcurrency = SettingKey(
        "worker.concurrency", .int(1...10_000), "200", "Deliveries at once on this worker.")
    static let workerPerDestination = SettingKey(
        "worker.per_destination", .int(1...1_000), "20", "Connections at once to one recipient host.")
    static let workerLease = SettingKey(
        "worker.lease", .duration(.seconds(5) ... .seconds(300)), "15s",
        "How long claims outlive the last heartbeat.")
    static let workerPrefetch = SettingKey(
        "worker.prefetch", .int(1...10_000), "400", "Most deliveries claimed and not yet begun.")

    // MARK: delivery
    static let deliveryRetry = SettingKey(
        "delivery.retry", .list(of: .duration(.milliseconds(100) ... .seconds(86_400)), notEmpty: true),
        "1m,2m,5m,15m,30m", "Waits between attempts, each ±20 %; the last repeats.")
    static let deliveryExpire = SettingKey(
        "delivery.expire", .duration(.seconds(1) ... .seconds(30 * 86_400)), "5d",
        "When a deferred delivery ends with a report to its sender.")
    static let deliveryDelayReport = SettingKey(
        "delivery.delay_report", .duration(.seconds(1) ... .seconds(30 * 86_400)), "4h",
        "Age of a message at which its sender is told, once, that it is delayed.")
    static let deliveryPort = SettingKey(
        "delivery.port", .int(1...65_535), "25", "Port of recipient hosts.")
    static let deliveryTrustRoots = SettingKey(
        "delivery.trust_roots", optional: .path,
        "PEM file of trusted roots for recipients' certificates; without it those of the system.")
    static let deliveryRoutes = SettingKey(
        "delivery.routes",
        .list(
            of: .readable("domain=host:port", example: "example.org=gw.example.net:25") { StaticRoute($0) }),
        "", "Static routes, instead of a domain's MX.")
    static let deliverySourceAddress = SettingKey(
        "delivery.source_address", optional: .address, "Local address that deliveries leave from.")
    static let deliveryFinalDotTimeout = SettingKey(
        "delivery.final_dot_timeout", .duration(.seconds(1) ... .seconds(3600)), "10m",
        "How long the answer to the end of the content may take (RFC 5321 §4.5.3.2.6).")
    static let deliveryInDoubt = SettingKey(
        "delivery.in_doubt", .choice(InDoubtPolicy.self), "resend",
        "What becomes of a delivery whose final answer was lost: sent again and marked, or held.")
    static let deliveryHostName = SettingKey(
        "delivery.hostname", .hostName, "localhost", "Name that deliveries say in EHLO.")

    // MARK: rulesets
    static let rulesetsFile = SettingKey(
        "rulesets.file", optional: .path,
        "YAML file with rulesets of your own (docs/verdicts.md); read at start, without it there are the built-in ones."
    )

    // MARK: scan
    static let scanHosts = SettingKey(
        "scan.hosts", .choice(ScanHosts.self), "ruleset",
        "Which recipient hosts are asked for everything that they accept: none, those of messages whose ruleset asks for scans, or all."
    )
    static let scanFreshMinimum = SettingKey(
        "scan.fresh_min", .duration(.seconds(1) ... .seconds(30 * 86_400)), "1h",
        "The least that a scan holds, whatever the TTLs of the DNS answers that led to the host.")
    static let scanFreshMaximum = SettingKey(
        "scan.fresh_max", .duration(.seconds(1) ... .seconds(30 * 86_400)), "24h",
        "The most that a scan holds.")
    static let scanSourceAddress = SettingKey(
        "scan.source_address", optional: .address,
        "Local address that scans leave from; without it that of deliveries. Give it one of its own: a host that bans who begins dozens of handshakes then bans no mail."
    )

    // MARK: dns
    static let dnsForwarders = SettingKey(
        "dns.forwarders",
        .list(of: .readable("address@port", example: "192.0.2.53@53") { DNSForwarder($0) }, atMost: 16), "",
        "Resolvers to forward to; empty asks the authoritative servers.")
    static let dnsTrustAnchor = SettingKey(
        "dns.trust_anchor", .trustAnchor, "root",
        "DNSSEC trust anchor: `root`, `none` (every answer is insecure) or a file.")

    // MARK: policy
    static let policyTrustRoots = SettingKey(
        "policy.trust_roots", optional: .path,
        "PEM file of trusted roots for hosts of MTA-STS policies; without it those of the system.")
    static let policyAllowedNetworks = SettingKey(
        "policy.allowed_networks",
        .list(of: .readable("cidr", example: "10.1.0.0/16") { NetworkBlock($0) }), "",
        "Networks outside of the public Internet in which hosts of MTA-STS policies may be, such as a lab's.")
    static let policyPort = SettingKey(
        "policy.port", .int(1...65_535), "443",
        "Port of hosts of MTA-STS policies; another one only in a lab.")

    // MARK: nta
    static let ntaHeaderName = SettingKey(
        "nta.header_name", optional: .fieldName,
        "Name of the header field that marks a message delivered under a ruleset with `nta`; without it none is added."
    )
    static let ntaHeaderValue = SettingKey(
        "nta.header_value", optional: .fieldValue, "Value of that header field.")
    static let ntaEEANetworks = SettingKey(
        "nta.eea_networks",
        .list(of: .readable("cidr", example: "192.0.2.0/24") { NetworkBlock($0) }, atMost: 10_000), "",
        "Networks inside the European Economic Area; where any is given, every other address is outside.")
    static let ntaOutsideNetworks = SettingKey(
        "nta.outside_networks",
        .list(of: .readable("cidr", example: "198.51.100.0/24") { NetworkBlock($0) }, atMost: 10_000), "",
        "Networks outside of it, also where they are part of one of `nta.eea_networks`.")

    // MARK: api
    static let apiListen = SettingKey(
        "api.listen", .list(of: .hostPort), "127.0.0.1:8443", "Where the HTTPS API is served.")
    static let apiCertificate = SettingKey(
        "api.certificate", optional: .path, "PEM file: certificate chain of the API, leaf first.")
    static let apiKey = SettingKey("api.key", optional: .path, "PEM file: private key of the certificate.")
    static let apiMaxConnections = SettingKey(
        "api.max_connections", .int(1...100_000), "1000",
        "HTTPS connections at once; more wait in the backlog.")
    static let apiRatePerSecond = SettingKey(
        "api.rate_per_second", .int(1...100_000), "100",
        "Requests a second of one API key, with a burst of ten times that; more are answered 429.")
    static let apiStatementTimeout = SettingKey(
        "api.statement_timeout", .duration(.milliseconds(100) ... .seconds(60)), "5s",
        "Longest query; a long one would hold back vacuum on the leader.")
    static let apiJudge = SettingKey(
        "api.judge", .bool, "true",
        "Whether GET /v1/judge makes reports on recipient domains, for which the node connects to their hosts."
    )

    // MARK: metrics
    static let metricsListen = SettingKey(
        "metrics.listen", .hostPort, "127.0.0.1:9464", "Where /metrics, /healthz and /readyz are served.")

    // MARK: keys
    static let keyringSocket = SettingKey(
        "keyring.socket", optional: .path, "Unix socket of the key service for this node's role.")
    static let keysRootPublic = SettingKey(
        "keys.root_public", optional: .rootKey,
        "The cluster's root (Ed25519 public key, base64): key sets it did not sign are refused.")
    static let keysBatchSeconds = SettingKey(
        "keys.batch_seconds", .int(1...86_400, unit: "s"), "300", "Longest life of a batch key.")
    static let keysBatchMessages = SettingKey(
        "keys.batch_messages", .int(1...1_000_000), "1024", "Most messages sealed from one batch key.")

    // MARK: client
    static let clientURL = SettingKey(
        "client.url", optional: .text, "The API that `zegel` commands ask: https://host:port.")
    static let clientKeyFile = SettingKey(
        "client.key_file", optional: .path, "File with the API key of `zegel` commands.")
    static let clientAuthority = SettingKey(
        "client.authority", optional: .path, "PEM file: who may vouch for the API's certificate.")

    // MARK: log
    static let logLevel = SettingKey(
        "log.level", .choice(LogLevel.self), "info", "Least severe log lines that are written.")

    /// The table: what the file, the environment and `--set` may name.
    static let all: [AnySettingKey] = [
        .init(nodeName), .init(nodeRegion), .init(nodeDataDirectory), .init(nodeShutdownGrace),
        .init(controlDSN), .init(controlMaximumAge), .init(shardDSNs), .init(shardPatroni),
        .init(shardPatroniAuthority),
        .init(shardPatroniCertificate), .init(shardPatroniKey), .init(shardRegions), .init(shardHomes),
        .init(shardVoters),
        .init(shardPasswords),
        .init(edgeListen), .init(edgeListenTLS), .init(edgeHostName), .init(edgeCertificate),
        .init(edgeKey), .init(edgeRequireTLS), .init(edgeTenantNetworks), .init(edgeMaxConnections),
        .init(edgeMaxMessageSize), .init(edgeMaxRecipients), .init(edgeSettle), .init(edgeBatchBytes),
        .init(edgeBatchCount),
        .init(workerConcurrency), .init(workerPerDestination), .init(workerLease), .init(workerPrefetch),
        .init(deliveryRetry), .init(deliveryExpire), .init(deliveryDelayReport), .init(deliveryPort),
        .init(deliveryTrustRoots),
        .init(deliveryRoutes), .init(deliverySourceAddress), .init(deliveryFinalDotTimeout),
        .init(deliveryInDoubt), .init(deliveryHostName),
        .init(rulesetsFile),
        .init(scanHosts), .init(scanFreshMinimum), .init(scanFreshMaximum), .init(scanSourceAddress),
        .init(dnsForwarders), .init(dnsTrustAnchor),
        .init(policyTrustRoots), .init(policyAllowedNetworks), .init(policyPort),
        .init(ntaHeaderName), .init(ntaHeaderValue), .init(ntaEEANetworks), .init(ntaOutsideNetworks),
        .init(apiListen), .init(apiCertificate), .init(apiKey), .init(apiMaxConnections),
        .init(apiRatePerSecond), .init(apiStatementTimeout), .init(apiJudge),
        .init(metricsListen),
        .init(keyringSocket), .init(keysRootPublic), .init(keysBatchSeconds), .init(keysBatchMessages),
        .init(clientURL), .init(clientKeyFile), .init(clientAuthority),
        .init(logLevel),
    ]

    static let byName: [String: AnySettingKey] = Dictionary(
        all.map { ($0.entry.name, $0) }, uniquingKeysWith: { first, _ in first })

    /// What every key is, in the order of the reference.
    public static var entries: [SettingEntry] { all.map(\.entry) }
}

/// What becomes of a delivery whose final answer was lost.
public enum InDoubtPolicy: String, Sendable, CaseIterable {
    /// Sent again, its event marked `possible_duplicate`.
    case resend
    /// Held until an operator decides.
    case hold
}

/// Which recipient hosts are scanned.
public enum ScanHosts: String, Sendable, CaseIterable {
    /// None.
    case off
    /// Those of messages whose ruleset asks for scans.
    case ruleset
    /// All.
    case all
}

/// Severities, as swift-log names them.
public enum LogLevel: String, Sendable, CaseIterable {
    /// From the most to the least talkative.
    case trace, debug, info, notice, warning, error, critical
}

/// Where the DNSSEC chain of trust begins.
public enum TrustAnchor: Sendable, Hashable {
    /// The root's key, built in.
    case root
    /// Nowhere: every answer counts as insecure.
    case none
    /// A file with DS or DNSKEY records.
    case file(String)
}

extension SettingType where Value == HostPort {
    static var hostPort: SettingType { .readable("host:port", example: "127.0.0.1:2525") { HostPort($0) } }
}

extension SettingType where Value == TrustAnchor {
    static var trustAnchor: SettingType {
        .readable("trust anchor", example: "root, none or a path") { text in
            switch text {
            case "": nil
            case "root": TrustAnchor.root
            case "none": TrustAnchor.none
            default: .file(text)
            }
        }
    }
}
