package versions_test

import (
	"encoding/json"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/berthd/berth/api/types/container"
	"github.com/berthd/berth/api/types/versions"
)

func TestUpdateIgnoresWhatCameLater(t *testing.T) {
	for _, tc := range []struct {
		version     string
		pids, rates bool
	}{{"1.39", false, false}, {"1.40", true, false}, {"1.54", true, false}, {"1.55", true, true}} {
		r := &container.UpdateRequest{Resources: container.Resources{
			Memory: 1, PidsLimit: new(int64(1)), BlkioDeviceReadBps: []*container.ThrottleDevice{},
			BlkioWeightDevice: []*container.WeightDevice{{}},
		}}
		_, err := versions.Request(versions.For(tc.version), r)
		assert.NilError(t, err)
		assert.Equal(t, r.PidsLimit != nil, tc.pids, tc.version)
		assert.Equal(t, r.BlkioDeviceReadBps != nil, tc.rates, tc.version)
		assert.Equal(t, r.BlkioWeightDevice != nil, tc.rates, tc.version)
		assert.Equal(t, r.Memory, int64(1))
	}
}

func TestOldStatsSumUpTheInterfaces(t *testing.T) {
	s := &container.StatsResponse{Read: time.Now(), Networks: map[string]container.NetworkStats{
		"eth0": {RxBytes: 1, TxBytes: 2, RxPackets: 3, TxPackets: 4, RxErrors: 5, TxErrors: 6, RxDropped: 7, TxDropped: 8},
		"eth1": {RxBytes: 10, TxBytes: 20, RxPackets: 30, TxPackets: 40, RxErrors: 50, TxErrors: 60, RxDropped: 70, TxDropped: 80},
	}}
	b, err := json.Marshal(versions.Response(versions.For("1.20"), s))
	assert.NilError(t, err)
	var got struct{ Network container.NetworkStats }
	assert.NilError(t, json.Unmarshal(b, &got))
	assert.DeepEqual(t, got.Network, container.NetworkStats{
		RxBytes: 11, TxBytes: 22, RxPackets: 33, TxPackets: 44, RxErrors: 55, TxErrors: 66, RxDropped: 77, TxDropped: 88,
	})
}

func TestStatsOfAStoppedContainerHaveOneShape(t *testing.T) {
	s := &container.StatsResponse{ID: "abc", Name: "/x"}
	for _, v := range []string{"1.12", "1.20", "1.21", "1.51"} {
		b, err := json.Marshal(versions.Response(versions.For(v), s))
		assert.NilError(t, err)
		var got map[string]any
		assert.NilError(t, json.Unmarshal(b, &got))
		assert.Equal(t, got["id"], "abc", v)
		assert.Assert(t, got["network"] == nil, v)
	}
}

func TestAnExecThatCouldNotStartHasCode126BelowV124(t *testing.T) {
	for _, tc := range []struct {
		version         string
		code, pid, want int
	}{{"1.23", 127, 0, 126}, {"1.23", 127, 5, 127}, {"1.23", 3, 0, 3}, {"1.24", 127, 0, 127}} {
		x := &container.ExecInspect{ExitCode: new(tc.code), Pid: tc.pid}
		versions.Response(versions.For(tc.version), x)
		assert.Equal(t, *x.ExitCode, tc.want, tc.version)
	}
}
