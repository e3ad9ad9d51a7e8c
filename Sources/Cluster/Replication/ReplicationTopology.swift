// Which regions vote, and which hold a member of which shard: what the configuration of every member is made from.

/// The regions and shards of a replicated cluster, as its members see each other.
public struct ReplicationTopology: Sendable, Codable, Equatable {
    /// One region's etcd.
    public struct Voter: Sendable, Codable, Equatable {
        /// The region's name, which is etcd's too.
        public var region: String
        /// The address that it listens on and is reached at.
        public var address: String
        /// The port for clients.
        public var client: Int
        /// The port for the other voters.
        public var peer: Int

        /// Where clients find it.
        var url: String { "https://\(address):\(client)" }
    }

    /// One region's PostgreSQL of one shard.
    public struct Member: Sendable, Codable, Equatable {
        /// The region's name, which is Patroni's name of the member.
        public var region: String
        /// The address that PostgreSQL and Patroni listen on and are reached at.
        public var address: String
        /// PostgreSQL's port.
        public var port: Int
        /// The port of Patroni's REST interface.
        public var rest: Int
    }

    /// One shard.
    public struct Shard: Sendable, Codable, Equatable {
        /// Its name: `a`.
        public var name: String
        /// The region that leads it in good times.
        public var home: String
        /// One member a region.
        public var members: [Member]

        /// What Patroni calls it.
        public var scope: String { "zegel-\(name)" }
    }

    /// How fast a loss is noticed (design §10).
    public struct Pace: Sendable, Codable, Equatable {
        /// Seconds after which a leader that nobody hears of has lost its place; Patroni refuses less than 20.
        public var ttl = 20
        /// Seconds between looks.
        public var loopWait = 5
        /// Seconds that a look may take.
        public var retryTimeout = 5

        /// The defaults.
        public init() {}
    }

    /// Who votes: an odd number, one a region, the witness of two among them.
    public var voters: [Voter]
    /// The shards, the control shard first.
    public var shards: [Shard]
    /// How fast a loss is noticed.
    public var pace = Pace()
    /// Networks, as CIDR, from which nodes that are on no member's machine connect: with their passwords, to the ledger's database.
    public var nodes: [String] = []
    /// Networks, as CIDR, from which operators connect: besides, as the superuser.
    public var operators: [String] = []

    /// A topology of these.
    public init(voters: [Voter], shards: [Shard], pace: Pace = Pace()) {
        self.voters = voters
        self.shards = shards
        self.pace = pace
    }

    /// The shard called `name`.
    func shard(_ name: String) -> Shard? { shards.first { $0.name == name } }

    /// A shard as a node in `region` reaches it: all members over TLS, its own region's first.
    /// - Parameters:
    ///   - target: libpq's `target_session_attrs`.
    ///   - authority: PEM file: who signed the members' certificates.
    func conninfo(
        _ shard: String, from region: String, role: String, password: String, target: String,
        authority: String, database: String = LedgerSite.database
    ) -> String {
        let members = members(of: shard, from: region)
        let file = authority.map { "\\'".contains($0) ? "\\\($0)" : "\($0)" }.joined()
        return "host=\(members.map(\.address).joined(separator: ",")) "
            + "port=\(members.map { String($0.port) }.joined(separator: ",")) "
            + "dbname=\(database) user=\(role) password=\(password) sslmode=verify-full "
            + "sslrootcert='\(file)' target_session_attrs=\(target)"
    }

    /// The Patronis of a shard, those of `region` first.
    func patronis(_ shard: String, from region: String) -> [String] {
        members(of: shard, from: region).map { "https://\($0.address):\($0.rest)" }
    }

    private func members(of shard: String, from region: String) -> [Member] {
        let all = self.shard(shard)?.members ?? []
        return all.filter { $0.region == region } + all.filter { $0.region != region }
    }

    /// Networks that members and nodes come from, each as CIDR: the regions' addresses, and loopback as a whole where they are on it.
    var networks: [String] {
        let addresses = Set(voters.map(\.address) + shards.flatMap(\.members).map(\.address))
        return ["127.0.0.0/8"] + addresses.filter { !$0.hasPrefix("127.") }.sorted().map { "\($0)/32" }
    }
}
