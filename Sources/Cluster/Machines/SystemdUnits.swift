// The units of systemd that run a region's etcd, Patronis, guards and keeper, each as its own user and shut in as far as it can be.

/// One unit.
struct SystemdUnit: Sendable {
    /// Its file's name.
    let name: String
    /// What it is, in a few words.
    let description: String
    /// What it starts after, besides the network.
    var after: [String] = []
    /// What it runs.
    let command: [String]
    /// Who runs it.
    let user: String
    /// Folders that it may write to.
    var writes: [String] = []
    /// Lines of `[Service]` that the others do not have.
    var service: [String] = []

    /// The unit's file.
    var text: String {
        """
        [Unit]
        Description=\(description)
        Wants=network-online.target
        After=\((["network-online.target"] + after).joined(separator: " "))
        # It is never given up, however often it ended.
        StartLimitIntervalSec=0

        [Service]
        Type=exec
        User=\(user)
        ExecStart=\(command.joined(separator: " "))
        Restart=always
        RestartSec=2
        \(service.joined(separator: "\n"))
        # No core dump: it would hold what memory held.
        LimitCORE=0
        UMask=0077
        NoNewPrivileges=yes
        CapabilityBoundingSet=
        ProtectSystem=strict
        \(writes.isEmpty ? "# It writes nowhere." : "ReadWritePaths=\(writes.joined(separator: " "))")
        ProtectHome=yes
        PrivateTmp=yes
        PrivateDevices=yes
        ProtectClock=yes
        ProtectHostname=yes
        ProtectKernelTunables=yes
        ProtectKernelModules=yes
        ProtectKernelLogs=yes
        ProtectControlGroups=yes
        RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
        RestrictNamespaces=yes
        RestrictRealtime=yes
        RestrictSUIDSGID=yes
        LockPersonality=yes
        SystemCallArchitectures=native
        SystemCallFilter=@system-service
        SystemCallErrorNumber=EPERM

        [Install]
        WantedBy=multi-user.target

        """
    }
}

extension SystemdUnit {
    /// A region's voter.
    static func etcd(_ region: MachinePlan.Region) -> SystemdUnit {
        SystemdUnit(
            name: "zegel-etcd.service", description: "Zegel: the vote of region \(region.name) (etcd)",
            command: [
                region.places.etcd, "--config-file", MachineFiles(region).etcdConfiguration,
            ], user: region.places.etcdUser, writes: [region.voterData],
            service: ["LimitNOFILE=65536", "MemoryDenyWriteExecute=yes", "TimeoutStopSec=30"])
    }

    /// Patroni over the member of a shard.
    static func patroni(_ shard: String, _ region: MachinePlan.Region) -> SystemdUnit {
        SystemdUnit(
            name: "zegel-patroni-\(shard).service",
            description:
                "Zegel: the member of shard \(shard) in region \(region.name) (Patroni and PostgreSQL)",
            after: ["zegel-etcd.service"],
            command: [region.places.patroni, MachineFiles(region).patroniConfiguration(shard)],
            user: region.places.user, writes: [region.data[shard] ?? "", region.places.sockets],
            service: [
                "ExecReload=/bin/kill -HUP $MAINPID",
                "# PostgreSQL outlives a Patroni that fails, for the 9 s that the guard gives a new one; a stop ends both in order.",
                "KillMode=process", "TimeoutStopSec=60", "OOMPolicy=continue",
            ])
    }

    /// The guard over the member of a shard.
    static func `guard`(_ shard: String, _ member: ReplicationTopology.Member, _ region: MachinePlan.Region)
        -> SystemdUnit
    {
        let files = MachineFiles(region)
        return SystemdUnit(
            name: "zegel-guard-\(shard).service",
            description: "Zegel: ends the PostgreSQL of shard \(shard) when its Patroni is stuck",
            command: [
                region.places.zegel, "guard", "--patroni", "https://\(member.address):\(member.rest)",
                "--data", files.postgres(shard), "--authority", files.authority,
            ], user: region.places.user, writes: [region.data[shard] ?? ""],
            service: [
                "Environment=SWIFT_BACKTRACE=enable=no",
                "# It must have its turn when the machine is at its worst.",
                "Nice=-5", "OOMScoreAdjust=-900",
            ])
    }

    /// What brings a region's leaders home and keeps house.
    static func keeper(_ region: MachinePlan.Region) -> SystemdUnit {
        SystemdUnit(
            name: "zegel-keeper.service",
            description: "Zegel: brings the leaders of region \(region.name) home and keeps house",
            command: [
                region.places.zegel, "region", "keep", "--config", MachineFiles(region).keeperSettings,
            ], user: region.places.user, service: ["Environment=SWIFT_BACKTRACE=enable=no"])
    }
}

/// Where the generated files of a region lie on its machines.
struct MachineFiles {
    private let region: MachinePlan.Region
    private var folder: String { region.places.files }

    init(_ region: MachinePlan.Region) { self.region = region }

    /// Who signed the members' certificates.
    var authority: String { folder + "/ca.pem" }
    /// What etcd is told.
    var etcdConfiguration: String { folder + "/etcd/etcd.yaml" }
    /// What Patroni is told.
    func patroniConfiguration(_ shard: String) -> String { folder + "/postgres/\(shard).yaml" }
    /// What the keeper is told.
    var keeperSettings: String { folder + "/postgres/keeper.yaml" }
    /// PostgreSQL's own data folder.
    func postgres(_ shard: String) -> String { (region.data[shard] ?? "") + "/data" }

    /// Who the region's etcd is.
    var voter: MemberIdentity { identity("etcd", EtcdConfiguration.commonName(of: region.name)) }
    /// Who its members are.
    var member: MemberIdentity { identity("postgres", PatroniConfiguration.commonName(of: region.name)) }

    private func identity(_ place: String, _ name: String) -> MemberIdentity {
        MemberIdentity(
            certificate: "\(folder)/\(place)/\(name).pem", key: "\(folder)/\(place)/\(name).key",
            authority: authority)
    }
}
