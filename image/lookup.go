package image

import "context"

// ID returns the id of the image that ref names, in one of the ways that Resolve knows. No image is a NotFound.
func (s *Service) ID(ctx context.Context, ref string) (string, error) {
	f, err := s.find(s.engine.Context(ctx), ref)
	if err != nil {
		return "", err
	}
	return f.id(), nil
}

// Count returns how many images there are.
func (s *Service) Count(ctx context.Context) (int, error) {
	entries, err := s.entries(s.engine.Context(ctx))
	return len(entries), err
}
