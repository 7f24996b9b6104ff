"""What the engine is asked for when a build asks for a container: never more than a container of the build's own."""

import json
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import InvalidRequest
from agent.gate import bodies, create, objects, strict_json
from agent.gate.policy import GatePolicy, Limits, Refused, Workspace

LABELS = {"sibling.gate": "b", "sibling.gate.intent": "x"}
POLICY = GatePolicy(limits=Limits(memory=2**30, cpus=2, pids=100))
SOCKET = {"Type": "bind", "Source": "/run/gate/docker.sock"}


def planned(body):
    read = bodies.read(bodies.ContainerBody, strict_json.parse(json.dumps(body).encode()))
    return create.plan(read, POLICY, Workspace(path="/workspace", volume="files", subpath="builds/1"))


def upstream(
    body,
    gateways=("10.9.0.1",),
    name="",
    inherited=MappingProxyType({"ExposedPorts": {"81/tcp": {}}}),
    new_volumes=("named", "name", "v"),
):
    plan = planned(body)
    return plan.body(
        create.Resolved(
            image="id",
            name=name,
            containers={name: f"full-{name}" for name in plan.containers},
            networks={name: name for name in plan.networks},
            volumes={name: name for name in plan.volumes},
            network="own-net",
            gateways=gateways,
            free_ports=iter(["40001", "40002"]),
            socket=SOCKET,
            labels=LABELS,
            inherited=inherited,
            new_volumes=new_volumes,
            paths={},
        )
    )


def host(**fields):
    return upstream({"Image": "i", "HostConfig": fields})["HostConfig"]


@pytest.mark.parametrize(
    ("field", "given", "made"),
    [
        ("Memory", 2**20 * 64, 2**20 * 64),
        ("Memory", 0, 2**30),
        ("Memory", 1, 6 * 2**20),
        ("NanoCpus", 5 * 10**8, 5 * 10**8),
        ("NanoCpus", 0, 2 * 10**9),
        ("NanoCpus", 1, 10**7),
        ("PidsLimit", -1, 100),
        ("PidsLimit", 5, 5),
        ("AutoRemove", True, True),
        ("Init", True, True),
        ("CapDrop", ["ALL"], ["ALL"]),
        ("CapAdd", ["chown", "CAP_CHOWN", "Cap_Kill"], ["CAP_CHOWN", "CAP_KILL"]),
        ("SecurityOpt", ["no-new-privileges:true"], ["no-new-privileges"]),
        ("NetworkMode", "", "own-net"),
        ("NetworkMode", "bridge", "own-net"),
        ("NetworkMode", "none", "none"),
        ("NetworkMode", "mine", "mine"),
        ("NetworkMode", "container:a", "container:full-a"),
        ("PidMode", "container:a", "container:full-a"),
        ("IpcMode", "", "private"),
        ("CpusetMems", "0", "0"),
        ("IpcMode", "container:a", "container:full-a"),
        ("VolumesFrom", ["a:ro"], ["full-a:ro"]),
        ("RestartPolicy", {"Name": "always"}, {"Name": "no"}),
        (
            "RestartPolicy",
            {"Name": "on-failure", "MaximumRetryCount": 3},
            {"Name": "no"},
        ),
        ("Tmpfs", {"/t": "size=1m,noexec"}, {"/t": "size=1m,noexec"}),
        ("Ulimits", [{"Name": "nofile", "Soft": 1024, "Hard": 2048}], [{"Name": "nofile", "Soft": 1024, "Hard": 2048}]),
        ("Sysctls", {"net.core.somaxconn": "1024"}, {"net.core.somaxconn": "1024"}),
        ("PublishAllPorts", True, False),
        ("Privileged", False, False),
        ("ExtraHosts", ["a:1.2.3.4"], ["a:1.2.3.4"]),
    ],
)
def test_what_a_container_may_have_it_gets(field, given, made):
    assert host(**{field: given})[field] == made


BIND = {"Type": "bind", "Source": "/workspace", "Target": "/w"}


@pytest.mark.parametrize(
    ("given", "like"),
    [
        ({"Annotations": {"a": "b"}}, {}),
        ({"OomKillDisable": True}, {}),
        ({"BlkioWeight": 1000}, {}),
        ({"SecurityOpt": ["no-new-privileges=false", "no-new-privileges:false"]}, {}),
        ({"SecurityOpt": ["label=disable", "label:disable"]}, {}),
        ({"SecurityOpt": ["label=disable", "no-new-privileges"]}, {"SecurityOpt": ["no-new-privileges"]}),
        ({"Mounts": [{**BIND, "BindOptions": {"NonRecursive": True}}]}, {"Mounts": [BIND]}),
        ({"Mounts": [{**BIND, "BindOptions": {"ReadOnlyNonRecursive": True}}]}, {"Mounts": [BIND]}),
        (
            {"Mounts": [{**BIND, "ReadOnly": True, "BindOptions": {"ReadOnlyForceRecursive": True}}]},
            {"Mounts": [{**BIND, "ReadOnly": True}]},
        ),
    ],
)
def test_what_does_no_harm_is_passed_over(given, like):
    assert host(**given) == host(**like)


def test_an_endpoints_driver_options_are_passed_over():
    endpoint = {"DriverOpts": {"com.docker.network.endpoint.sysctls": "x"}, "Aliases": ["a"]}
    made = upstream({"Image": "i", "NetworkingConfig": {"EndpointsConfig": {"mine": endpoint}}})
    assert made["NetworkingConfig"]["EndpointsConfig"]["mine"] == {"Aliases": ["a"]}


def test_memory_goes_before_a_volume_without_a_name():
    made = upstream({"Image": "i", "Volumes": {"/x": {}}, "HostConfig": {"Tmpfs": {"/x/": "strictatime"}}})
    assert made["HostConfig"]["Mounts"] == []
    assert made["HostConfig"]["Tmpfs"] == {"/x": "strictatime"}
    assert made["Volumes"] == {"/x": {}}


def test_a_mounts_volume_is_made_with_its_options():
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}
    mount = {"Type": "volume", "Source": "vol", "Target": "/x", "VolumeOptions": {"DriverConfig": {"Options": options}}}
    plan = planned({"Image": "i", "HostConfig": {"Mounts": [mount]}})
    assert objects.volume_body(plan.volumes["vol"], 2**30)["DriverOpts"] == options
    (made,) = host(Mounts=[{**mount, "Source": "v"}])["Mounts"]
    assert made["VolumeOptions"] == {"NoCopy": False}, "the engine is not asked for it again"
    mount["VolumeOptions"]["DriverConfig"]["Options"] = {"type": "none", "o": "bind", "device": "/etc"}
    with pytest.raises(Refused, match="DriverOpts"):
        objects.volume_body(planned({"Image": "i", "HostConfig": {"Mounts": [mount]}}).volumes["vol"], 2**30)


@pytest.mark.parametrize(
    ("bind", "mount"),
    [
        ("/workspace:/w", {"Source": "files", "VolumeOptions": {"NoCopy": True, "Subpath": "builds/1"}}),
        ("/workspace/a/../b/:/w", {"Source": "files", "VolumeOptions": {"NoCopy": True, "Subpath": "builds/1/b"}}),
        ("/workspace/a:/w:ro,z", {"Source": "files", "VolumeOptions": {"NoCopy": True, "Subpath": "builds/1/a"}}),
        ("name:/w", {"Source": "name", "VolumeOptions": {"NoCopy": False}}),
        ("/w", {"VolumeOptions": {"NoCopy": False}}),
    ],
)
def test_a_bind_is_a_mount_of_a_volume(bind, mount):
    made = host(Binds=[bind])
    assert "Binds" not in made
    assert made["Mounts"] == [{"Target": "/w", "ReadOnly": ":ro" in bind, "Type": "volume", **mount}]


def test_the_docker_socket_is_the_gates_own():
    for source in ("/var/run/docker.sock", "/run/docker.sock", "/run/../var/run/docker.sock"):
        assert host(Binds=[f"{source}:/var/run/docker.sock"])["Mounts"] == [
            {**SOCKET, "Target": "/var/run/docker.sock", "ReadOnly": True}
        ]


@pytest.mark.parametrize("address", ["", "0.0.0.0", "::", "127.0.0.1"])
def test_ports_are_published_at_the_gateway(address):
    bindings = {"80/tcp": [{"HostIp": address, "HostPort": "8080"}]}
    assert host(PortBindings=bindings)["PortBindings"] == {"80/tcp": [{"HostIp": "10.9.0.1", "HostPort": "8080"}]}
    made = upstream({"Image": "i", "ExposedPorts": {"82/tcp": {}}, "HostConfig": {"PublishAllPorts": True}})[
        "HostConfig"
    ]
    assert made["PortBindings"] == {port: [{"HostIp": "10.9.0.1", "HostPort": ""}] for port in ("82/tcp", "81/tcp")}


def test_ports_have_the_same_number_at_the_gateway_of_each_network():
    def made(*ports):
        bindings = {"80/tcp": [{"HostPort": port} for port in ports]}
        body = upstream({"Image": "i", "HostConfig": {"PortBindings": bindings}}, ("10.9.0.1", "10.8.0.1"))
        return [(each["HostIp"], each["HostPort"]) for each in body["HostConfig"]["PortBindings"]["80/tcp"]]

    assert made("8080") == [("10.9.0.1", "8080"), ("10.8.0.1", "8080")]
    assert made("", "0") == [(ip, port) for port in ("40001", "40002") for ip in ("10.9.0.1", "10.8.0.1")]
    assert made("8000-8010") == [("10.9.0.1", "8000-8010")]


@pytest.mark.parametrize(
    ("fields", "rule", "named"),
    [
        ({"Privileged": True}, "field", "HostConfig.Privileged"),
        ({"CapAdd": ["ALL"]}, "field", "HostConfig.CapAdd"),
        ({"CapAdd": ["cap_sys_admin"]}, "field", "HostConfig.CapAdd"),
        ({"SecurityOpt": ["apparmor=unconfined"]}, "field", "HostConfig.SecurityOpt"),
        ({"SecurityOpt": ["label=type:x"]}, "field", "HostConfig.SecurityOpt"),
        ({"NetworkMode": "host"}, "field", "HostConfig.NetworkMode"),
        ({"PidMode": "host"}, "field", "HostConfig.PidMode"),
        ({"IpcMode": "host"}, "field", "HostConfig.IpcMode"),
        ({"UTSMode": "host"}, "field", "HostConfig.UTSMode"),
        ({"UsernsMode": "host"}, "field", "HostConfig.UsernsMode"),
        ({"CgroupnsMode": "host"}, "field", "HostConfig.CgroupnsMode"),
        ({"CgroupParent": "/x"}, "field", "HostConfig.CgroupParent"),
        ({"Runtime": "kata"}, "field", "HostConfig.Runtime"),
        ({"Isolation": "hyperv"}, "field", "HostConfig.Isolation"),
        ({"VolumeDriver": "nfs"}, "field", "HostConfig.VolumeDriver"),
        ({"Devices": [{"PathOnHost": "/dev/sda"}]}, "field", "HostConfig.Devices"),
        ({"DeviceRequests": [{"Count": -1}]}, "field", "HostConfig.DeviceRequests"),
        ({"DeviceCgroupRules": ["a *:* rwm"]}, "field", "HostConfig.DeviceCgroupRules"),
        ({"OomScoreAdj": -5}, "field", "HostConfig.OomScoreAdj"),
        ({"MaskedPaths": []}, "field", "HostConfig.MaskedPaths"),
        ({"ReadonlyPaths": []}, "field", "ReadonlyPaths"),
        ({"StorageOpt": {"size": "1"}}, "field", "HostConfig.StorageOpt"),
        ({"Sysctls": {"kernel.panic": "1"}}, "field", "HostConfig.Sysctls"),
        ({"Ulimits": [{"Name": "rtprio", "Soft": 1, "Hard": 1}]}, "field", "HostConfig.Ulimits"),
        ({"Ulimits": [{"Name": "nofile", "Soft": -1, "Hard": -1}]}, "field", "HostConfig.Ulimits"),
        ({"LogConfig": {"Type": "gelf"}}, "field", "HostConfig.LogConfig"),
        ({"Tmpfs": {"/t": "suid"}}, "field", "HostConfig.Tmpfs"),
        ({"BlkioWeight": 1001}, "field", "HostConfig.BlkioWeight"),
        ({"BlkioWeightDevice": [{"Path": "/dev/sda", "Weight": 1}]}, "field", "HostConfig.BlkioWeightDevice"),
        ({"CpuRealtimeRuntime": 10}, "field", "HostConfig.CpuRealtimeRuntime"),
        ({"PortBindings": {"80/tcp": [{"HostIp": "8.8.8.8"}]}}, "field", "HostConfig.PortBindings"),
        ({"Memory": 2**31}, "limits.memory", "HostConfig.Memory"),
        ({"Memory": -1}, "limits.memory", "HostConfig.Memory"),
        ({"ShmSize": 2**31}, "limits.memory", "HostConfig.ShmSize"),
        ({"NanoCpus": 3 * 10**9}, "limits.cpus", "HostConfig.NanoCpus"),
        ({"CpuQuota": 300_000}, "limits.cpus", "HostConfig.NanoCpus"),
        ({"CpuQuota": 3_000, "CpuPeriod": 1_000}, "limits.cpus", "HostConfig.NanoCpus"),
        ({"PidsLimit": 101}, "limits.pids", "HostConfig.PidsLimit"),
        ({"Binds": ["/:/x"]}, "bind", "HostConfig.Binds"),
        ({"Binds": ["/workspacex:/x"]}, "bind", "HostConfig.Binds"),
        ({"Binds": ["/workspace/../etc:/x"]}, "bind", "HostConfig.Binds"),
        ({"Binds": ["//etc:/x"]}, "bind", "HostConfig.Binds"),
        ({"Binds": ["/workspace:/x:shared"]}, "bind", "HostConfig.Binds"),
        ({"Mounts": [{"Type": "bind", "Source": "/etc", "Target": "/x"}]}, "bind", "HostConfig.Mounts"),
        ({"Mounts": [{"Type": "image", "Source": "i", "Target": "/x"}]}, "bind", "HostConfig.Mounts"),
        ({"Mounts": [{"Type": "cluster", "Source": "i", "Target": "/x"}]}, "bind", "HostConfig.Mounts"),
        (
            {
                "Mounts": [
                    {"Type": "bind", "Source": "/workspace", "Target": "/x", "BindOptions": {"Propagation": "shared"}}
                ]
            },
            "bind",
            "Propagation",
        ),
        (
            {"Mounts": [{"Type": "volume", "Target": "/x", "VolumeOptions": {"DriverConfig": {"Name": "nfs"}}}]},
            "field",
            "DriverConfig",
        ),
        (
            {"Mounts": [{"Type": "volume", "Source": "vv", "Target": "/x", "VolumeOptions": {"Subpath": "../y"}}]},
            "bind",
            "Subpath",
        ),
        (
            {
                "Mounts": [
                    {"Type": "volume", "Target": "/x", "VolumeOptions": {"DriverConfig": {"Options": {"o": "x"}}}}
                ]
            },
            "field",
            "DriverConfig",
        ),
        ({"NoSuchField": 1}, "field", "HostConfig.NoSuchField"),
        ({"PortBindings": {f"{port}/tcp": [{}] for port in range(1, 102)}}, "field", "HostConfig.PortBindings"),
    ],
)
def test_what_gives_more_is_refused_by_its_rule_and_its_name(fields, rule, named):
    with pytest.raises(Refused) as refused:
        host(**fields)
    assert refused.value.rule == rule
    assert named in str(refused.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"Binds": ["a/b:/x"]},
        {"Binds": ["v:x"]},
        {"Binds": ["vv:/"]},
        {"Binds": ["vv:/x/../.."]},
        {"Binds": ["vv:/x", "ww:/x/"]},
        {"Binds": ["vv:/x"], "Tmpfs": {"/x": ""}},
        {"Binds": ["vv:/x"], "Tmpfs": {"//x": ""}},
        {"Tmpfs": {"/x": "", "/x/": ""}},
        {"Binds": ["vv:///"]},
        {"Links": ["a:b"], "NetworkMode": "none"},
        {"Links": ["a:b"], "NetworkMode": "container:a"},
        {"PortBindings": {"80/tcp": [{"HostPort": "99999"}]}},
        {"PortBindings": {"80/tcp": [{"HostPort": "1-60000"}]}},
        {"PortBindings": {"x": []}},
    ],
)
def test_what_makes_no_sense_is_refused(fields):
    with pytest.raises(InvalidRequest):
        host(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"Binds": [f"/workspace:/{number}" for number in range(101)]},
        {"Mounts": [{"Type": "volume", "Target": f"/{number}"} for number in range(101)]},
        {"Binds": ["a:/a"], "Tmpfs": {f"/{number}": "" for number in range(100)}},
    ],
    ids=["binds", "mounts", "tmpfs"],
)
def test_a_container_has_few_mounts(fields):
    with pytest.raises(Refused, match="more than 100 mounts"):
        host(**fields)
    with pytest.raises(Refused, match="more than 100 mounts"):
        upstream({"Image": "i", "Volumes": {f"/{number}": {} for number in range(101)}})


@pytest.mark.parametrize("field", ["Cmd", "Entrypoint"])
def test_a_command_that_all_are_told_is_not_too_long(field):
    assert upstream({"Image": "i", field: ["sh", "-c", "x" * 120_000]})[field]
    with pytest.raises(Refused, match="a command of more than"):
        upstream({"Image": "i", field: ["<" * 30_000]})


@pytest.mark.parametrize("seconds", [-1, 601])
def test_the_engine_ends_without_a_long_wait_for_a_container(seconds):
    with pytest.raises(InvalidRequest, match="StopTimeout"):
        planned({"Image": "i", "StopTimeout": seconds})


@pytest.mark.parametrize("name", ["Interval", "StartInterval"])
def test_a_health_check_is_no_load(name):
    assert upstream({"Image": "i", "Healthcheck": {"Test": ["CMD", "x"], name: 10**8}})["Healthcheck"][name] == 10**8
    with pytest.raises(Refused, match=rf"Healthcheck\.{name}:"):
        upstream({"Image": "i", "Healthcheck": {"Test": ["CMD", "x"], name: 10**6}})


def test_nor_is_that_of_an_image():
    image = {"Healthcheck": {"Test": ["CMD", "x"], "Interval": 10**6, "StartInterval": 10**9}}
    assert upstream({"Image": "i"}, inherited=image)["Healthcheck"] == {"Interval": 10**8}
    asked = {"Retries": 2, "Interval": 10**9}
    assert upstream({"Image": "i", "Healthcheck": asked}, inherited=image)["Healthcheck"] == asked
    assert "Healthcheck" not in upstream({"Image": "i"}, inherited={"Healthcheck": {"Interval": 10**9}})
    backwards = {"Healthcheck": {"Test": ["CMD", "x"], "Interval": -1, "StartInterval": -(10**9)}}
    assert upstream({"Image": "i"}, inherited=backwards)["Healthcheck"] == {"Interval": 10**8, "StartInterval": 10**8}


@pytest.mark.parametrize("kind", ["CMD", "CMD-SHELL"])
def test_a_health_check_has_a_command(kind):
    with pytest.raises(InvalidRequest, match=f"{kind} has no command"):
        upstream({"Image": "i", "Healthcheck": {"Test": [kind]}})
    image = {"Healthcheck": {"Test": [kind], "Interval": 10**9}}
    for asked in ({}, {"Healthcheck": {"Retries": 2}}):
        assert upstream({"Image": "i", **asked}, inherited=image)["Healthcheck"]["Test"] == ["NONE"]
    own = {"Healthcheck": {"Test": ["CMD", "x"]}}
    assert upstream({"Image": "i", **own}, inherited=image)["Healthcheck"] == own["Healthcheck"]


def test_the_engine_fills_no_volume_that_a_container_has_had():
    binds = [f"{name}:/{name}" for name in ("v", "had")]
    made = host(Binds=binds)["Mounts"]
    assert [(each["Source"], each["VolumeOptions"]["NoCopy"]) for each in made] == [("v", False), ("had", True)]


def test_volumes_are_settings_as_well_where_there_is_a_mount_for_them():
    made = upstream({"Image": "i", "Volumes": {"/v/": {}, "/n": None}, "HostConfig": {"Binds": ["named:/n"]}})
    assert made["Volumes"] == {"/v/": {}, "/n": {}}
    assert [each["Target"] for each in made["HostConfig"]["Mounts"]] == ["/n", "/v"]


def test_volumes_without_a_name_are_counted_with_those_of_the_image():
    binds = ["/w", "named:/n", "/workspace:/x"]
    mounts = planned({"Image": "i", "Volumes": {"/v": {}}, "HostConfig": {"Binds": binds, "Tmpfs": {"/t": ""}}}).mounts
    assert mounts.anonymous(()) == 2
    assert mounts.anonymous(["/v/", "/n", "/t", "/other", "//other", "/more"]) == 4
    assert mounts.anonymous(["v", "t", "n"]) == 5  # which the engine takes for others


@pytest.mark.parametrize(("mode", "network"), [("", "own-net"), ("bridge", "own-net"), ("mine", "mine")])
def test_links_are_those_of_the_containers_network_where_the_engine_heeds_them(mode, network):
    made = upstream({"Image": "i", "HostConfig": {"NetworkMode": mode, "Links": ["a:alias", "/b"]}})
    assert made["NetworkingConfig"]["EndpointsConfig"] == {network: {"Links": ["full-a:alias", "full-/b:b"]}}
    assert "Links" not in made["HostConfig"]


def test_links_and_an_endpoint_of_the_same_network_are_one():
    endpoint = {"Aliases": ["x"], "Links": ["a:one"]}
    made = upstream(
        {
            "Image": "i",
            "HostConfig": {"Links": ["b:two"]},
            "NetworkingConfig": {"EndpointsConfig": {"bridge": endpoint}},
        }
    )
    assert made["NetworkingConfig"]["EndpointsConfig"] == {
        "own-net": {"Aliases": ["x"], "Links": ["full-a:one", "full-b:two"]}
    }


def test_a_link_names_the_container_as_the_networks_dns_knows_it():
    body = bodies.read(bodies.ConnectBody, {"Container": "c", "EndpointConfig": {"Links": ["a:alias", "a"]}})
    made = objects.connect_body(body, "c" * 64, "db", {"a": "0123456789ab" + "f" * 52})
    assert made["EndpointConfig"] == {"Links": ["0123456789ab:alias", "0123456789ab:a"], "Aliases": ["db"]}


def test_exposed_ports_and_volumes_hold_nothing_of_the_clients():
    assert upstream({"Image": "i", "ExposedPorts": {"80/tcp": {}, "81/tcp": None}})["ExposedPorts"] == {
        "80/tcp": {},
        "81/tcp": {},
    }
    for name in ("ExposedPorts", "Volumes"):
        with pytest.raises(Refused, match=rf"{name}\."):
            upstream({"Image": "i", name: {"/x": {"a": 1}}})


def test_its_networks_know_a_container_by_its_own_name():
    endpoints = upstream({"Image": "i"}, name="db")["NetworkingConfig"]["EndpointsConfig"]
    assert endpoints == {"own-net": {"Aliases": ["db"]}}
    given = {"net": {"Aliases": ["a"]}, "other": {}}
    body = {"Image": "i", "HostConfig": {"NetworkMode": "net"}, "NetworkingConfig": {"EndpointsConfig": given}}
    endpoints = upstream(body, name="db")["NetworkingConfig"]["EndpointsConfig"]
    assert endpoints == {"net": {"Aliases": ["a", "db"]}, "other": {"Aliases": ["db"]}}
    for alone in ("none", "container:a"):
        body = {"Image": "i", "HostConfig": {"NetworkMode": alone}}
        assert upstream(body, name="db")["NetworkingConfig"]["EndpointsConfig"] == {}


def test_an_empty_command_and_no_time_to_stop_are_not_the_same_as_none():
    made = upstream({"Image": "i", "Cmd": [], "StopTimeout": 0, "Labels": {"a": "b"}})
    assert (made["Cmd"], made["StopTimeout"], made["Labels"]) == ([], 0, {"a": "b", **LABELS})


KEYS = [
    *(
        "Privileged",
        "Binds",
        "CapAdd",
        "PidMode",
        "NetworkMode",
        "UsernsMode",
        "Devices",
        "Mounts",
        "Memory",
        "MemorySwap",
        "PidsLimit",
    ),
    *(
        "CgroupParent",
        "SecurityOpt",
        "IpcMode",
        "VolumesFrom",
        "MaskedPaths",
        "NanoCpus",
        "PublishAllPorts",
        "Tmpfs",
        "Runtime",
    ),
]
CASES = st.sampled_from(
    [str, str.lower, str.upper, str.swapcase, lambda key: key.replace("s", "\u017f"), lambda key: f"{key} "]
)
WILD = st.one_of(
    st.sampled_from(
        [
            True,
            False,
            None,
            0,
            -1,
            2**40,
            "host",
            "container:x",
            "",
            ["/:/h"],
            ["ALL"],
            ["chown"],
            [],
            {},
            ["seccomp=unconfined"],
        ]
    ),
    st.just([{"Type": "bind", "Source": "/", "Target": "/h"}]),
    st.just([{"PathOnHost": "/dev/sda", "PathInContainer": "/d"}]),
)
FIELDS = st.dictionaries(st.builds(lambda key, case: case(key), st.sampled_from(KEYS), CASES), WILD, max_size=4)


@given(FIELDS, FIELDS, st.sampled_from(["HostConfig", "hostconfig", "HO\u017fTCONFIG"]))
@settings(max_examples=400, deadline=None)
def test_whatever_is_asked_for_in_whatever_spelling_the_promises_are_kept(top, inner, name):
    try:
        made = upstream({"Image": "i", **top, name: inner})
    except InvalidRequest:
        return
    config = made["HostConfig"]
    assert set(made) <= {*create._KEPT, "Image", "ExposedPorts", "Volumes", "Labels", "HostConfig", "NetworkingConfig"}
    assert not config["Privileged"]
    assert set(config.get("CapAdd", ())) <= {f"CAP_{name}" for name in create.CAPABILITIES}
    assert not {"Binds", "Devices", "CgroupParent", "UsernsMode", "UTSMode", "MaskedPaths", "Runtime"} & set(config)
    assert config["NetworkMode"] != "host"
    assert config["PidMode"] in ("", "container:full-x")
    assert 0 < config["Memory"] == config["MemorySwap"] <= 2**30
    assert 0 < config["PidsLimit"] <= 100
    assert 0 < config["NanoCpus"] <= 2 * 10**9
    assert set(config["SecurityOpt"]) <= {"no-new-privileges"}
    assert [mount for mount in config["Mounts"] if mount["Type"] == "bind"] == []
    assert made["Labels"].items() >= LABELS.items()


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"EnableIPv4": True, "ConfigOnly": False, "ConfigFrom": {"Network": ""}, "Scope": ""},
        {"IPAM": {"Driver": "default", "Config": [], "Options": {}}},
        {"IPAM": {"Driver": "default", "Config": [{}], "Options": None}},
        {"IPAM": {"Config": [{"Subnet": "", "AuxiliaryAddresses": {}}]}},
    ],
)
def test_a_network_is_one_that_clients_ask_for_in_their_own_ways(more):
    made = objects.network_body(
        bodies.read(bodies.NetworkBody, {"Name": "net", "CheckDuplicate": True, **more}), GatePolicy()
    )
    assert (made["Name"], made["Driver"], "IPAM" in made) == ("net", "bridge", False)


def test_a_networks_bridge_and_where_it_publishes_are_not_the_builds_choice():
    options = {
        "com.docker.network.bridge.name": "br0",
        "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
        "com.docker.network.driver.mtu": "1400",
    }
    made = objects.network_body(bodies.read(bodies.NetworkBody, {"Name": "net", "Options": options}), GatePolicy())
    assert made["Options"] == {"com.docker.network.driver.mtu": "1400"}


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ({"IPAM": {"Config": [{"Subnet": "10.1.0.0/16"}]}}, "subnet"),
        ({"IPAM": {"Config": [{}, {"Gateway": "10.1.0.1"}]}}, "subnet"),
        ({"IPAM": {"Config": [{"AuxiliaryAddresses": {"a": "10.1.0.1"}}]}}, "subnet"),
        ({"ConfigFrom": {"Network": "host"}}, "field"),
        ({"ConfigOnly": True}, "field"),
    ],
)
def test_a_network_with_more_than_that_is_refused_by_its_rule(more, rule):
    with pytest.raises(Refused) as refusal:
        objects.network_body(bodies.read(bodies.NetworkBody, {"Name": "net", **more}), GatePolicy())
    assert refusal.value.rule == rule


ALLOWED = GatePolicy(subnets=("10.200.0.0/16", "fd00:5::/32"))


def addresses(*asked, policy=ALLOWED):
    body = bodies.read(bodies.NetworkBody, {"Name": "net", "IPAM": {"Config": list(asked)}})
    return objects.network_body(body, policy)["IPAM"]["Config"]


@pytest.mark.parametrize(
    ("asked", "made"),
    [
        ({"Subnet": "10.200.3.0/24"}, {"Gateway": "10.200.3.1"}),
        (
            {"Subnet": "10.200.0.0/16", "IPRange": "10.200.5.0/24"},
            {"Gateway": "10.200.5.1", "IPRange": "10.200.5.0/24"},
        ),
        ({"Subnet": "10.200.3.0/24", "Gateway": "10.200.3.254"}, {"Gateway": "10.200.3.254"}),
        ({"Subnet": "fd00:5:1::/64"}, {"Gateway": "fd00:5:1::1"}),
        (
            {"Subnet": "10.200.3.0/24", "AuxiliaryAddresses": {"router": "10.200.3.9"}},
            {"Gateway": "10.200.3.1", "AuxiliaryAddresses": {"router": "10.200.3.9"}},
        ),
    ],
)
def test_addresses_that_policy_has_for_builds_may_be_chosen(asked, made):
    assert addresses(asked) == [{"Subnet": asked["Subnet"], "AuxiliaryAddresses": {}, **made}]


@pytest.mark.parametrize(
    "asked",
    [
        {"Subnet": "10.201.0.0/24"},
        {"Subnet": "10.0.0.0/8"},
        {"Subnet": "10.200.0.0/15"},
        {"Subnet": "0.0.0.0/0"},
        {"Subnet": "fd00:6::/64"},
        {"Subnet": "::ffff:10.200.0.0/112"},
    ],
)
def test_addresses_that_it_does_not_have_are_refused(asked):
    with pytest.raises(Refused) as refusal:
        addresses({"Subnet": "10.200.3.0/24"}, asked)
    assert refusal.value.rule == "subnet"


@pytest.mark.parametrize(
    "more",
    [
        {"Subnet": "10.200.3.1/24"},
        {"Subnet": "10.200.3.0/24/1"},
        {"Gateway": "10.201.0.1"},
        {"Gateway": "10.200.3.0/23"},
        {"Gateway": "fd00:5::1"},
        {"IPRange": "10.200.4.0/24"},
        {"IPRange": "10.200.0.0/16"},
        {"AuxiliaryAddresses": {"x": "10.201.0.1"}},
        {"Gateway": "10.201.0.1", "AuxiliaryAddresses": {"Gateway": "10.200.3.9"}},
        {"Subnet": "10.200.0.0/24", "IPRange": "10.200.0.0/16"},
    ],
)
def test_addresses_that_do_not_fit_are_no_request(more):
    with pytest.raises(InvalidRequest) as refusal:
        addresses({"Subnet": "10.200.3.0/24", **more})
    assert not isinstance(refusal.value, Refused)
