package versions

import "math"

// Behaviour is what handlers do differently in some versions.
type Behaviour struct {
	PlainErrors      bool // below 1.24: errors are plain text, not JSON
	StartTakesBody   bool // below 1.24: the body of start is a HostConfig that replaces the stored one
	KillIgnoresIdle  bool // below 1.20: kill of a container that does not run succeeds and does nothing
	PushAuthInBody   bool // below 1.24: a push without the header for credentials has them in its body
	ExecStartUntyped bool // below 1.22: the body of an exec's start is JSON whatever its content type
	EarlyWaitHeaders bool // from 1.30: wait sends its status and headers before it waits
	SilentRemoveWait bool // 1.30 to 1.33: wait for a removal that failed has an empty body
	MultiplexedTypes bool // from 1.42: streams without a TTY say so in their content type
	BinaryFrames     bool // from 1.28: attach over WebSocket sends binary frames, text before
	SocketStreams    bool // from 1.42: attach over WebSocket takes stdin, stdout and stderr, which are all on before
	InspectSize      bool // from 1.21: inspect takes the size query
	StopTakesSignal  bool // from 1.42: stop and restart take a signal
	ImageFilterQuery bool // below 1.41: the image list takes filter, a reference
	StatsOneShot     bool // from 1.41: stats takes one-shot
	StatsNotBoth     bool // 1.41 to 1.51: stats refuses stream with one-shot
	EventsAreLines   bool // from 1.52: events say application/jsonl
	LogsAsJSON       bool // from 1.54: logs takes format=json
	CreatePlatform   bool // from 1.32: pull and import take a platform
	PushPlatform     bool // from 1.46: push takes a platform
	InspectPlatform  bool // from 1.49: the inspection of an image takes a platform
	DeletePlatforms  bool // from 1.50: the removal of an image takes platforms
	ImagePlatforms   int  // how many platforms history, save and load take: none below 1.48, one below 1.52, then any
}

func behaviours() []Change {
	return []Change{
		{Below: "1.20", What: "kill of a stopped container does nothing", Do: []effect{
			behaviour(func(b *Behaviour) { b.KillIgnoresIdle = true })}},
		{From: "1.21", What: "inspect takes size", Do: []effect{
			behaviour(func(b *Behaviour) { b.InspectSize = true })}},
		{Below: "1.22", What: "the start of an exec needs no content type", Do: []effect{
			behaviour(func(b *Behaviour) { b.ExecStartUntyped = true })}},
		{Below: "1.24", What: "errors are plain text", Do: []effect{
			behaviour(func(b *Behaviour) { b.PlainErrors = true })}},
		{Below: "1.24", What: "start takes a HostConfig", Do: []effect{
			behaviour(func(b *Behaviour) { b.StartTakesBody = true })}},
		{Below: "1.24", What: "push has credentials in its body", Do: []effect{
			behaviour(func(b *Behaviour) { b.PushAuthInBody = true })}},
		{From: "1.28", What: "attach over WebSocket is binary", Do: []effect{
			behaviour(func(b *Behaviour) { b.BinaryFrames = true })}},
		{From: "1.30", What: "wait answers its headers at once", Do: []effect{
			behaviour(func(b *Behaviour) { b.EarlyWaitHeaders = true })}},
		{From: "1.30", Below: "1.34", What: "wait has no Error yet", Do: []effect{
			behaviour(func(b *Behaviour) { b.SilentRemoveWait = true })}},
		{From: "1.32", What: "pull and import take a platform", Do: []effect{
			behaviour(func(b *Behaviour) { b.CreatePlatform = true })}},
		{Below: "1.41", What: "the image list takes a name as filter", Do: []effect{
			behaviour(func(b *Behaviour) { b.ImageFilterQuery = true })}},
		{From: "1.41", What: "stats takes one-shot", Do: []effect{
			behaviour(func(b *Behaviour) { b.StatsOneShot = true })}},
		{From: "1.41", Below: "1.52", What: "stats refuses stream with one-shot", Do: []effect{
			behaviour(func(b *Behaviour) { b.StatsNotBoth = true })}},
		{From: "1.42", What: "content types tell multiplexed from raw streams", Do: []effect{
			behaviour(func(b *Behaviour) { b.MultiplexedTypes = true })}},
		{From: "1.42", What: "attach over WebSocket chooses its streams", Do: []effect{
			behaviour(func(b *Behaviour) { b.SocketStreams = true })}},
		{From: "1.42", What: "stop and restart take a signal", Do: []effect{
			behaviour(func(b *Behaviour) { b.StopTakesSignal = true })}},
		{From: "1.46", What: "push takes a platform", Do: []effect{
			behaviour(func(b *Behaviour) { b.PushPlatform = true })}},
		{From: "1.48", Below: "1.52", What: "history, save and load take a platform", Do: []effect{
			behaviour(func(b *Behaviour) { b.ImagePlatforms = 1 })}},
		{From: "1.49", What: "the inspection of an image takes a platform", Do: []effect{
			behaviour(func(b *Behaviour) { b.InspectPlatform = true })}},
		{From: "1.50", What: "the removal of an image takes platforms", Do: []effect{
			behaviour(func(b *Behaviour) { b.DeletePlatforms = true })}},
		{From: "1.52", What: "events are JSON lines", Do: []effect{
			behaviour(func(b *Behaviour) { b.EventsAreLines = true })}},
		{From: "1.52", What: "save and load take several platforms", Do: []effect{
			behaviour(func(b *Behaviour) { b.ImagePlatforms = math.MaxInt })}},
		{From: "1.54", What: "logs can be JSON records", Do: []effect{
			behaviour(func(b *Behaviour) { b.LogsAsJSON = true })}},
	}
}
