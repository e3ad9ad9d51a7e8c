// Reads a plan of machines line by line: every refusal names the line at fault and what to write instead.

import Foundation
import HTTPClient
import Settings

/// The lines of a plan, taken one after the other; what nobody took is unknown.
struct PlanReader {
    private let file: String
    private let lines: [YAMLLine]
    private var taken: Set<String> = []

    init(lines: [YAMLLine], file: String) {
        self.lines = lines
        self.file = file
    }

    /// An error at a line.
    func refusal(_ line: YAMLLine, _ problem: String, _ fix: String) -> SettingsError {
        SettingsError(place: "\(file):\(line.line)", key: line.name, problem: problem, fix: fix)
    }

    private func refusal(at line: Int?, _ key: String?, _ problem: String, _ fix: String) -> SettingsError {
        SettingsError(place: line.map { "\(file):\($0)" } ?? file, key: key, problem: problem, fix: fix)
    }

    /// The names below `prefix.`, each with its first line.
    private func names(below prefix: String) -> [(name: String, line: Int)] {
        var found: [(name: String, line: Int)] = []
        for line in lines where line.name.hasPrefix(prefix + ".") {
            let name = String(line.name.dropFirst(prefix.count + 1).prefix { $0 != "." })
            if !found.contains(where: { $0.name == name }) { found.append((name, line.line)) }
        }
        return found
    }

    private mutating func take(_ name: String) -> YAMLLine? {
        guard let line = lines.first(where: { $0.name == name }) else { return nil }
        taken.insert(name)
        return line
    }

    // MARK: Shards and regions

    /// The shards with their homes, the control shard first.
    mutating func shards() throws(SettingsError) -> [(name: String, home: YAMLLine)] {
        var shards: [(name: String, home: YAMLLine)] = []
        for (name, line) in names(below: "shards") {
            try check(name, of: "a shard", at: line, "shards.\(name)")
            guard let home = take("shards.\(name).home") else {
                throw refusal(
                    at: line, "shards.\(name)", "has no home",
                    "write \(name): {home: REGION}, the region that leads it")
            }
            shards.append((name, home))
        }
        guard (1...26).contains(shards.count) else {
            throw refusal(
                at: nil, "shards", shards.isEmpty ? "there is none" : "there are more than 26",
                "write shards: {a: {home: REGION}}; one for each region is usual")
        }
        return shards
    }

    /// The names of the regions that hold members, in the plan's order.
    mutating func regions(count shards: Int) throws(SettingsError) -> [(name: String, line: Int)] {
        let regions = names(below: "regions")
        for (name, line) in regions {
            try check(name, of: "a region", at: line, "regions.\(name)")
            if name == MachinePlan.witness {
                throw refusal(
                    at: line, "regions.\(name)", "is the name of the site that only votes",
                    "write witness: beside regions:, or give the region another name")
            }
        }
        switch regions.count {
        case 0:
            throw refusal(at: nil, "regions", "there is none", "write regions: {NAME: {address: ADDRESS}, …}")
        case 1:
            throw refusal(
                at: regions[0].line, "regions",
                "there is one, and nobody to take over from it",
                "add two, or one and a witness; on one machine: zegel local up")
        case 2 where witnessLine == nil:
            throw refusal(
                at: regions[0].line, "regions",
                "there are two and no witness: with either lost the other has no majority, and all stops",
                "add witness: {address: ADDRESS}, a small machine at a third site that only votes")
        case 10...:
            throw refusal(
                at: regions[9].line, "regions", "there are more than nine", "leave some out")
        default: return regions
        }
    }

    /// The first line of the witness.
    var witnessLine: Int? { names(below: "witness").first?.line }

    private func check(
        _ name: String, of what: String, at line: Int, _ key: String
    ) throws(SettingsError) {
        let isName =
            (1...30).contains(name.utf8.count) && name.first != "-" && name.last != "-"
            && name.utf8.allSatisfy {
                $0 == 0x2D || (0x30...0x39).contains($0) || (0x61...0x7A).contains($0)
            }
        guard isName else {
            throw refusal(
                at: line, key, "\(name) is no name of \(what)",
                "use small letters, digits and hyphens within it, 30 at most")
        }
    }

    /// A region without its members.
    mutating func region(
        _ name: String, _ line: Int, _ prefix: String, _ defaults: MachinePlan.Places
    ) throws(SettingsError) -> MachinePlan.Region {
        let places = try places(prefix, defaults)
        guard let address = try address(prefix + ".address") else {
            throw refusal(
                at: line, prefix, "has no address",
                "write address: the IPv4 address at which the others reach it")
        }
        let etcd = name == MachinePlan.witness ? prefix : prefix + ".etcd"
        let voter = ReplicationTopology.Voter(
            region: name,
            address: name == MachinePlan.witness ? address : try self.address(etcd + ".address") ?? address,
            client: try port(etcd + ".client") ?? 2379, peer: try port(etcd + ".peer") ?? 2380)
        let folder =
            name == MachinePlan.witness ? nil : try path(etcd + ".data")
        return MachinePlan.Region(
            name: name, line: line, places: places, voter: voter,
            voterData: folder ?? places.data + "/etcd", data: [:],
            machines: [MachinePlan.Machine(name: name, address: address, votes: false, shards: [])])
    }

    /// A region's member of a shard, and the folder that it keeps its data in.
    mutating func member(
        of shard: String, _ index: Int, in region: MachinePlan.Region
    ) throws(SettingsError) -> (ReplicationTopology.Member, data: String) {
        let prefix = "regions.\(region.name).shards.\(shard)"
        let member = ReplicationTopology.Member(
            region: region.name,
            address: try address(prefix + ".address") ?? region.machines[0].address,
            port: try port(prefix + ".port") ?? 5432 + index,
            rest: try port(prefix + ".rest") ?? 8008 + index)
        return (member, try path(prefix + ".data") ?? region.places.data + "/" + shard)
    }

    /// Where things lie, as `prefix` says it, else as before.
    mutating func places(
        _ prefix: String, _ before: MachinePlan.Places
    ) throws(SettingsError) -> MachinePlan.Places {
        var places = before
        for (key, keyPath, isPath) in MachinePlan.Places.keys {
            let name = prefix + "." + key
            if isPath {
                if let path = try path(name) { places[keyPath: keyPath] = path }
            } else if let line = take(name) {
                let isUser =
                    (1...32).contains(line.value.utf8.count)
                    && line.value.utf8.allSatisfy {
                        $0 == 0x2D || $0 == 0x5F || (0x30...0x39).contains($0) || (0x61...0x7A).contains($0)
                    }
                guard isUser else {
                    throw refusal(
                        line, "\(line.value) is no user of a machine", "write a name such as postgres")
                }
                places[keyPath: keyPath] = line.value
            }
        }
        if places.sockets.utf8.count > 80, let line = lines.first(where: { $0.name == prefix + ".sockets" }) {
            throw refusal(line, "is too long for a socket in it", "80 octets at most")
        }
        return places
    }

    // MARK: Values

    private mutating func address(_ name: String) throws(SettingsError) -> String? {
        guard let line = take(name) else { return nil }
        var bytes = in_addr()
        guard inet_pton(AF_INET, line.value, &bytes) == 1, bytes.s_addr != 0 else {
            throw refusal(
                line, "\(line.value) is no IPv4 address that others could reach",
                "write the machine's own, such as 192.0.2.1; names are not looked up")
        }
        return line.value
    }

    private mutating func port(_ name: String) throws(SettingsError) -> Int? {
        guard let line = take(name) else { return nil }
        guard let port = Int(line.value), (1...65_535).contains(port) else {
            throw refusal(line, "\(line.value) is no port", "write a number from 1 to 65535")
        }
        return port
    }

    /// An absolute path, which also units of systemd can name without quotes.
    mutating func path(_ name: String) throws(SettingsError) -> String? {
        guard let line = take(name) else { return nil }
        let isPlain = line.value.utf8.allSatisfy {
            "/._-+@".utf8.contains($0) || (0x30...0x39).contains($0) || (0x41...0x5A).contains($0)
                || (0x61...0x7A).contains($0)
        }
        let path = (line.value as NSString).standardizingPath
        guard line.value.hasPrefix("/"), isPlain, path != "/" else {
            throw refusal(
                line, "\(line.value) is no absolute path of letters, digits and . _ - + @",
                "write one such as /var/lib/zegel")
        }
        return path
    }

    /// Networks as CIDR, separated by commas.
    mutating func networks(_ name: String) throws(SettingsError) -> [String] {
        guard let line = take(name) else { return [] }
        var networks: [String] = []
        for part in line.value.split(separator: ",") {
            let text = part.trimmingCharacters(in: .whitespaces)
            guard let network = CIDR(text) else {
                throw refusal(
                    line, "\(text) is no network",
                    "write one such as 192.0.2.0/24, without bits behind the prefix")
            }
            networks.append("\(network)")
        }
        return networks
    }

    // MARK: The whole

    /// - Throws: for a line that means nothing.
    func checkNothingLeft(regions: [String], shards: [String]) throws(SettingsError) {
        guard let line = lines.first(where: { !taken.contains($0.name) }) else { return }
        let parts = line.name.split(separator: ".").map(String.init)
        if parts.count > 3, parts[0] == "regions", parts[2] == "shards", !shards.contains(parts[3]) {
            throw refusal(
                line, "there is no shard \(parts[3])", "write one of \(shards.joined(separator: ", "))")
        }
        let places = MachinePlan.Places.keys.map(\.key).joined(separator: ", ")
        let fix =
            switch parts.first {
            case "defaults": "there are \(places)"
            case "regions" where parts.count > 2 && parts[2] == "etcd":
                "there are address, client, peer, data"
            case "regions" where parts.count > 3: "there are address, port, rest, data"
            case "regions": "there are address, etcd, shards, \(places)"
            case "witness": "there are address, client, peer, \(places)"
            case "shards": "there is home"
            case "networks": "there are nodes, operators"
            default: "there are shards, regions, witness, networks, authority, defaults"
            }
        throw refusal(line, "is no key of a plan", fix)
    }

    /// - Throws: for an address in two regions, and for a port or a folder that two of a machine would share.
    func checkAddresses(
        _ regions: [MachinePlan.Region], _ topology: ReplicationTopology
    ) throws(SettingsError) {
        var owners: [String: MachinePlan.Region] = [:]
        var places: Set<String> = []
        for region in regions {
            let members = topology.shards.flatMap { shard in
                shard.members.filter { $0.region == region.name }.map { (shard: shard.name, member: $0) }
            }
            let own =
                [(region.voter.address, "etcd")] + members.map { ($0.member.address, "shards.\($0.shard)") }
            for (address, what) in own {
                if let owner = owners[address], owner.name != region.name {
                    throw refusal(
                        at: line(of: address, in: region, what), name(of: region),
                        "\(address) is an address of \(owner.name) too (line \(owner.line))",
                        "give each region machines of its own: it is lost as a whole")
                }
                owners[address] = region
            }
            let uses =
                [
                    (region.voter.address, region.voter.client, "etcd"),
                    (region.voter.address, region.voter.peer, "etcd"),
                ]
                + members.flatMap {
                    [
                        ($0.member.address, $0.member.port, "shards.\($0.shard)"),
                        ($0.member.address, $0.member.rest, "shards.\($0.shard)"),
                    ]
                }
            for (address, port, what) in uses where !places.insert("\(address):\(port)").inserted {
                throw refusal(
                    at: line(of: String(port), in: region, what), name(of: region),
                    "\(address):\(port) is used twice", "give \(what) another port, or another address")
            }
            let folders =
                [(region.voter.address, region.voterData, "etcd")]
                + members.map { ($0.member.address, region.data[$0.shard] ?? "", "shards.\($0.shard)") }
            for (address, folder, what) in folders where !places.insert("\(address):\(folder)").inserted {
                throw refusal(
                    at: line(of: folder, in: region, what), name(of: region),
                    "two of \(address) would keep their data in \(folder)", "give \(what) another folder")
            }
        }
    }

    private func name(of region: MachinePlan.Region) -> String {
        region.name == MachinePlan.witness ? region.name : "regions.\(region.name)"
    }

    /// The line of a region that says `value`, the one of `what` first; else where the region begins.
    private func line(of value: String, in region: MachinePlan.Region, _ what: String) -> Int {
        let own = lines.filter { $0.name.hasPrefix(name(of: region) + ".") && $0.value == value }
        return (own.first { $0.name.contains("." + what + ".") } ?? own.first)?.line ?? region.line
    }
}
