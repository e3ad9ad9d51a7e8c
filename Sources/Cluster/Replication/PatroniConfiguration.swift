// What Patroni is told of one member of a shard. Consensus is not ours (law 6): Patroni and etcd decide who leads, and these are the
// conditions under which their decision loses no acknowledged commit.

/// Where one member keeps what is its own.
public struct MemberPaths: Sendable, Equatable {
    /// PostgreSQL's data.
    public var data: String
    /// The folder of PostgreSQL's sockets.
    public var sockets: String
    /// The folder of PostgreSQL's programs.
    public var programs: String
    /// A file that Patroni writes for PostgreSQL's own tools.
    public var passwords: String
    /// The program `zegel`.
    public var zegel: String
}

/// The configuration file of one member's Patroni.
public struct PatroniConfiguration: Sendable {
    /// The role that members follow their leader as: it may stream and nothing more.
    public static let replicationRole = "zegel_replication"
    /// The role of `pg_rewind`: four functions that read files of the data folder.
    public static let rewindRole = "zegel_rewind"
    /// The name that a region's certificate carries.
    public static func commonName(of region: String) -> String { "member-\(region)" }

    /// All regions and shards.
    public let topology: ReplicationTopology
    /// The shard.
    public let shard: ReplicationTopology.Shard
    /// The member that this is for.
    public let member: ReplicationTopology.Member
    /// Where it keeps things.
    public let paths: MemberPaths
    /// Who it is.
    public let identity: MemberIdentity
    /// The superuser's password, which Patroni gives to a data folder that it makes.
    public let superuserPassword: String
    /// What PostgreSQL is told of archiving.
    var archiving = PostgresParameter.noArchive

    /// `patroni FILE`.
    public var text: String {
        """
        # Shard \(shard.name) in region \(member.region). A member of the shard runs in each region, and nothing else streams from it.
        scope: \(yamlScalar(shard.scope))
        namespace: /zegel/
        name: \(yamlScalar(member.region))

        restapi:
          listen: \(yamlScalar("\(member.address):\(member.rest)"))
          connect_address: \(yamlScalar("\(member.address):\(member.rest)"))
          certfile: \(yamlScalar(identity.certificate))
          keyfile: \(yamlScalar(identity.key))
          cafile: \(yamlScalar(identity.authority))
          # Whoever changes something shows a certificate; who leads, anybody may ask.
          verify_client: optional

        ctl:
          certfile: \(yamlScalar(identity.certificate))
          keyfile: \(yamlScalar(identity.key))
          cacert: \(yamlScalar(identity.authority))

        etcd3:
          hosts: [\(topology.voters.map { yamlScalar("\($0.address):\($0.client)") }.joined(separator: ", "))]
          protocol: https
          cacert: \(yamlScalar(identity.authority))
          cert: \(yamlScalar(identity.certificate))
          key: \(yamlScalar(identity.key))

        bootstrap:
          dcs:
        \(settings.indented(4))
          initdb:
            - encoding: UTF8
            - locale: C.UTF-8
            - data-checksums

        postgresql:
          listen: \(yamlScalar("\(member.address):\(member.port)"))
          connect_address: \(yamlScalar("\(member.address):\(member.port)"))
          data_dir: \(yamlScalar(paths.data))
          bin_dir: \(yamlScalar(paths.programs))
          pgpass: \(yamlScalar(paths.passwords))
          use_unix_socket: true
          # A rewind that was broken off leaves data that is of no use: the member is copied anew, without anybody being asked.
          remove_data_directory_on_rewind_failure: true
          # Each that leads does so on a timeline that no other has had, or not at all.
          pre_promote: \(yamlScalar(claim))
          # A new member does not wait for the leader's next checkpoint.
          basebackup:
            - checkpoint: fast
          authentication:
            superuser:
              username: postgres
              password: \(yamlScalar(superuserPassword))
        \(role("replication", Self.replicationRole).indented(4))
        \(role("rewind", Self.rewindRole).indented(4))
          parameters:
        \(parameters.map { "\($0.name): \(yamlScalar($0.value))" }.joined(separator: "\n").indented(4))
          pg_hba:
        \(rules.map { "- \(yamlScalar($0))" }.joined(separator: "\n").indented(4))
          pg_ident:
        \(names.map { "- \(yamlScalar($0))" }.joined(separator: "\n").indented(4))

        # The home region is preferred when its shard loses its leader elsewhere.
        tags:
          failover_priority: \(priority)

        # A PostgreSQL whose Patroni is stuck must end before another leads: `zegel guard` beside it, or a watchdog device here.
        watchdog:
          mode: off

        """
    }

    /// What the members of a shard share, kept in etcd: also for `patronictl edit-config`.
    public var settings: String {
        """
        ttl: \(topology.pace.ttl)
        loop_wait: \(topology.pace.loopWait)
        retry_timeout: \(topology.pace.retryTimeout)
        # What a leader wrote before it was lost, and nobody acknowledged, keeps nobody from leading: the quorum tells who has all that was.
        maximum_lag_on_failover: 1125899906842624
        # A leader that does not start again so soon, as with its disk full, lets another lead.
        primary_start_timeout: 30
        # Strict: with no other member left a commit waits, and synchronous_standby_names is never emptied.
        synchronous_mode: quorum
        synchronous_mode_strict: true
        synchronous_node_count: 1
        # Without a quorum in etcd a leader goes on as long as every member answers that it follows.
        failsafe_mode: true
        postgresql:
          use_pg_rewind: true
          use_slots: true
          parameters:
        \(PostgresParameter.shared.map { "\($0.name): \(yamlScalar($0.value))" }.joined(separator: "\n").indented(4))
        """
    }

    /// `zegel timeline`, as a shell's words.
    private var claim: String {
        let own = topology.voters.filter { $0.region == member.region }
        let voters = own + topology.voters.filter { $0.region != member.region }
        let words = [
            [paths.zegel, "timeline", "--shard", shard.scope, "--region", member.region],
            ["--data", paths.data], voters.flatMap { ["--etcd", $0.url] },
            shard.members.flatMap { ["--patroni", "https://\($0.address):\($0.rest)"] },
            ["--authority", identity.authority, "--certificate", identity.certificate],
            ["--key", identity.key],
        ].joined()
        return words.map { "'" + $0.replacing("'", with: "'\\''") + "'" }.joined(separator: " ")
    }

    /// The region's own shards first, then by the order of the regions.
    var priority: Int {
        if member.region == shard.home { return 9 }
        let others = shard.members.map(\.region).filter { $0 != shard.home }
        return max(1, 4 - (others.firstIndex(of: member.region) ?? 3))
    }

    private func role(_ use: String, _ name: String) -> String {
        """
        \(use):
          username: \(name)
          sslmode: verify-full
          sslrootcert: \(yamlScalar(identity.authority))
          sslcert: \(yamlScalar(identity.certificate))
          sslkey: \(yamlScalar(identity.key))
        """
    }

    private var parameters: [PostgresParameter] {
        let own: [PostgresParameter] = [
            .init("unix_socket_directories", paths.sockets), .init("unix_socket_permissions", "0777"),
            .init("ssl", "on"), .init("ssl_cert_file", identity.certificate),
            .init("ssl_key_file", identity.key), .init("ssl_ca_file", identity.authority),
            .init("ssl_min_protocol_version", "TLSv1.3"),
        ]
        let overridden = Set(PostgresParameter.replicated.map(\.name))
        return PostgresParameter.common.filter { !overridden.contains($0.name) }
            + PostgresParameter.replicated
            + own + archiving
    }

    /// Who may connect: members by certificate, for streaming and rewinding alone; nodes by password over TLS; nobody in clear.
    private var rules: [String] {
        let members = topology.networks.flatMap { network in
            [
                "hostssl replication \(Self.replicationRole) \(network) cert map=members",
                "hostssl postgres \(Self.rewindRole) \(network) cert map=members",
                "hostssl all \(Self.replicationRole),\(Self.rewindRole) \(network) reject",
                "hostssl all all \(network) scram-sha-256",
            ]
        }
        // From elsewhere nobody is the superuser but operators, and nobody sees another database than the ledger's.
        let operators = topology.operators.map { "hostssl all all \($0) scram-sha-256" }
        let nodes = topology.nodes.flatMap { network in
            [
                "hostssl all \(LedgerSite.superuser) \(network) reject",
                "hostssl \(LedgerSite.database) all \(network) scram-sha-256",
            ]
        }
        return ["local all all scram-sha-256"] + members + operators + nodes
    }

    private var names: [String] {
        shard.members.flatMap { other in
            [Self.replicationRole, Self.rewindRole].map {
                "members \(Self.commonName(of: other.region)) \($0)"
            }
        }
    }
}

extension String {
    /// Each line behind so many blanks.
    func indented(_ blanks: Int) -> String {
        let margin = String(repeating: " ", count: blanks)
        return split(separator: "\n", omittingEmptySubsequences: false).map { margin + $0 }
            .joined(separator: "\n")
    }
}
